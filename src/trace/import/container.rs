//! Content of files that importers read, as text: unpacked if it is compressed by gzip or zstd, turned into UTF-8 if it
//! is UTF-16, without a byte order mark. The first bytes decide, not the file's name.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::input::InputError;

const GZIP: &[u8] = &[0x1f, 0x8b];
/// Byte order mark of UTF-8.
const MARK: &[u8] = &[0xef, 0xbb, 0xbf];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of other containers, by name. These are refused with the way out.
const OTHERS: [(&str, &[u8], &str); 4] = [
    ("bzip2", b"BZh", "unpack it with `bzip2 -d`"),
    ("xz", &[0xfd, b'7', b'z', b'X', b'Z', 0], "unpack it with `xz -d`"),
    ("a zip archive or a workbook of Excel", b"PK\x03\x04", "unpack it, or export the sheet as CSV"),
    ("SQLite", b"SQLite format 3\0", "export the table as CSV"),
];

/// Content of a file, and a phrase for each step that led to it.
pub(super) struct Content<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) steps: Vec<&'static str>,
}

/// Unpacks the bytes of a file.
///
/// # Errors
/// Returns an error if the file is damaged or of another container.
pub(super) fn unpack<'a>(file: &Path, bytes: &'a [u8]) -> Result<Content<'a>, InputError> {
    let mut content = Content { bytes: Cow::Borrowed(bytes), steps: Vec::new() };
    if bytes.starts_with(GZIP) {
        let mut unpacked = Vec::new();
        let read = MultiGzDecoder::new(bytes).read_to_end(&mut unpacked);
        read.map_err(|error| damaged(file, "gzip", &error))?;
        content = Content { bytes: Cow::Owned(unpacked), steps: vec!["unpacked from gzip"] };
    } else if bytes.starts_with(ZSTD) {
        let unpacked = unpack_zstd(bytes).map_err(|error| damaged(file, "zstd", &error))?;
        content = Content { bytes: Cow::Owned(unpacked), steps: vec!["unpacked from zstd"] };
    }
    if content.bytes.starts_with(GZIP) || content.bytes.starts_with(ZSTD) {
        return Err(InputError::new(file, "is compressed twice: unpack it once"));
    }
    if !content.steps.is_empty() && content.bytes.starts_with(b"PAR1") {
        return Err(InputError::new(file, "is a compressed Parquet file: unpack it first"));
    }
    for (name, magic, way_out) in OTHERS {
        if content.bytes.starts_with(magic) {
            return Err(InputError::new(file, format!("is {name}, which is not read: {way_out}")));
        }
    }
    let decoded = match &*content.bytes {
        [0xff, 0xfe, rest @ ..] => Some(from_utf16(file, rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Some(from_utf16(file, rest, u16::from_be_bytes)?),
        _ => None,
    };
    if let Some(text) = decoded {
        content.bytes = Cow::Owned(text);
        content.steps.push("turned into UTF-8 from UTF-16");
    }
    content.bytes = match content.bytes {
        // A mapped file is not copied for want of its first three bytes.
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.strip_prefix(MARK).unwrap_or(bytes)),
        Cow::Owned(mut bytes) => {
            bytes.drain(..if bytes.starts_with(MARK) { MARK.len() } else { 0 });
            Cow::Owned(bytes)
        }
    };
    Ok(content)
}

fn damaged(file: &Path, name: &str, error: &dyn std::fmt::Display) -> InputError {
    InputError::new(file, format!("cannot be unpacked as {name}: {error}; is the file cut off?"))
}

/// Unpacks all frames of a file, and compares the checksums of those that have one.
fn unpack_zstd(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut rest = bytes;
    let mut unpacked = Vec::new();
    let mut decoder = FrameDecoder::new();
    // `zstd --long` writes windows of up to 2 GiB; the default of the decoder is smaller.
    decoder.set_max_window_size(1 << 31);
    while !rest.is_empty() {
        match decoder.reset(&mut rest) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                rest = rest.get(length as usize..).ok_or("a frame is longer than the file")?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        while !decoder.is_finished() {
            decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(1 << 20))?;
            decoder.collect_to_writer(&mut unpacked)?;
        }
        decoder.collect_to_writer(&mut unpacked)?;
        if decoder.get_checksum_from_data().is_some_and(|stored| Some(stored) != decoder.get_calculated_checksum()) {
            return Err("the checksum does not agree".into());
        }
    }
    Ok(unpacked)
}

/// Turns UTF-16 into UTF-8.
fn from_utf16(file: &Path, bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Vec<u8>, InputError> {
    let (units, rest) = bytes.as_chunks::<2>();
    let text: Option<String> = char::decode_utf16(units.iter().map(|&pair| unit(pair))).collect::<Result<_, _>>().ok();
    match text {
        Some(text) if rest.is_empty() => Ok(text.into_bytes()),
        _ => Err(InputError::new(file, "begins as UTF-16 and is none: save it as UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn text(bytes: &[u8]) -> Result<String, String> {
        let content = unpack(Path::new("f"), bytes).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(content.bytes.into_owned()).unwrap())
    }

    #[test]
    fn unpacks_by_the_first_bytes() {
        let plain = "a,b\n1,é\n".repeat(5000);
        let marked = format!("\u{feff}{plain}");
        let two = [zstd(b"one "), vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd(b"two")].concat();
        let utf_16: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            plain.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            gzip(plain.as_bytes()),
            gzip(marked.as_bytes()),
            zstd(plain.as_bytes()),
            utf_16,
            big,
        ] {
            assert_eq!(text(&bytes).unwrap(), plain);
        }
        assert_eq!(text(&two).unwrap(), "one two");
        assert_eq!(text(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(), "one two");
        assert_eq!(text(b"").unwrap(), "");
    }

    #[test]
    fn says_what_is_damaged_or_not_read() {
        let error = |bytes: &[u8]| text(bytes).err().unwrap();
        let whole = zstd(&[7; 3000]);
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(error(&whole[..whole.len() - 5]).starts_with("f: cannot be unpacked as zstd: "));
        assert_eq!(error(&flipped), "f: cannot be unpacked as zstd: the checksum does not agree; is the file cut off?");
        assert!(error(&gzip(&[7; 3000])[..20]).starts_with("f: cannot be unpacked as gzip: "));
        assert_eq!(error(&gzip(&gzip(b"a"))), "f: is compressed twice: unpack it once");
        assert!(error(b"PK\x03\x04xx").ends_with("which is not read: unpack it, or export the sheet as CSV"));
        assert!(error(&[0xff, 0xfe, 1]).contains("UTF-16"));
    }

    #[test]
    fn damaged_files_never_panic() {
        use rand::RngExt;
        let good = [gzip(b"a,b\n1,2\n"), zstd(&b"a,b\n1,2\n".repeat(40))];
        for seed in 0..600 {
            let mut generator = crate::draw::stream(seed, crate::draw::Purpose::Test, 5);
            let mut bytes = good[seed as usize % 2].clone();
            for _ in 0..generator.random_range(1..4) {
                let at = generator.random_range(0..bytes.len());
                bytes[at] = generator.random();
            }
            let _ = unpack(Path::new("f"), &bytes);
        }
    }
}
