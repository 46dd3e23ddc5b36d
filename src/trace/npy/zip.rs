//! Arrays in `.npz` files, as `numpy.savez` and `numpy.savez_compressed` write them: zip archives whose members are
//! stored or deflated. Other archives are refused with the way out.

use std::io::Read;
use std::path::Path;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::input::InputError;

const END: &[u8] = b"PK\x05\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// Longest end of an archive: its record and a comment of 64 KiB.
const LONGEST_END: usize = 22 + 65_535;
const LARGE: u64 = 0xffff_ffff;

/// Member of an archive.
#[derive(Debug)]
struct Member<'a> {
    name: &'a str,
    method: u16,
    checksum: u32,
    packed: u64,
    unpacked: u64,
    offset: u64,
}

/// Returns the bytes of an array of an archive: the one called so, or the only one.
///
/// # Errors
/// Returns an error if the archive is damaged, or if it is open which array is meant.
pub(super) fn array(file: &Path, bytes: &[u8], wanted: Option<&str>) -> Result<Vec<u8>, InputError> {
    let damaged = || InputError::new(file, "cannot be read as .npz: the archive is damaged, or larger than 4 GB");
    let members = members(bytes).ok_or_else(damaged)?;
    let names = members.iter().map(|member| short(member.name)).collect::<Vec<_>>().join(", ");
    let member = match (wanted, members.as_slice()) {
        (None, [only]) => only,
        (None, []) => return Err(InputError::new(file, "has no array")),
        (None, _) => {
            let first = short(members[0].name);
            let message = format!("has several arrays ({names}): say which, as in {}:{first}", file.display());
            return Err(InputError::new(file, message));
        }
        (Some(wanted), _) => members.iter().find(|member| short(member.name) == short(wanted)).ok_or_else(|| {
            InputError::new(file, format!("expected one of the arrays {names}")).value("array", wanted)
        })?,
    };
    unpack(bytes, member).ok_or_else(damaged)
}

fn short(name: &str) -> &str {
    name.strip_suffix(".npy").unwrap_or(name)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Reads the directory at the end of an archive.
fn members(bytes: &[u8]) -> Option<Vec<Member<'_>>> {
    let from = bytes.len().saturating_sub(LONGEST_END);
    let end = from + bytes[from..].windows(END.len()).rposition(|window| window == END)?;
    let count = u16_at(bytes, end + 10)?;
    let mut at = u32_at(bytes, end + 16)? as usize;
    let mut members = Vec::new();
    for _ in 0..count {
        if bytes.get(at..at + 4)? != ENTRY {
            return None;
        }
        let [name, extra, comment] = [28, 30, 32].map(|place| u16_at(bytes, at + place).map(usize::from));
        let (name, extra, comment) = (name?, extra?, comment?);
        let mut member = Member {
            name: str::from_utf8(bytes.get(at + 46..at + 46 + name)?).ok()?,
            method: u16_at(bytes, at + 10)?,
            checksum: u32_at(bytes, at + 16)?,
            packed: u32_at(bytes, at + 20)?.into(),
            unpacked: u32_at(bytes, at + 24)?.into(),
            offset: u32_at(bytes, at + 42)?.into(),
        };
        member.enlarge(bytes.get(at + 46 + name..at + 46 + name + extra)?)?;
        if !member.name.ends_with('/') {
            members.push(member);
        }
        at += 46 + name + extra + comment;
    }
    Some(members)
}

impl Member<'_> {
    /// Takes the numbers that do not fit 32 bits from the extra field (Zip64).
    fn enlarge(&mut self, mut extra: &[u8]) -> Option<()> {
        while extra.len() >= 4 {
            let (id, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
            let mut rest = extra.get(4..4 + length)?;
            extra = &extra[4 + length..];
            if id != 1 {
                continue;
            }
            for number in [&mut self.unpacked, &mut self.packed, &mut self.offset] {
                if *number == LARGE {
                    let (bytes, after) = rest.split_at_checked(8)?;
                    *number = u64::from_le_bytes(bytes.try_into().ok()?);
                    rest = after;
                }
            }
        }
        Some(())
    }
}

/// Unpacks a member, and checks its length and checksum.
fn unpack(bytes: &[u8], member: &Member<'_>) -> Option<Vec<u8>> {
    let at = usize::try_from(member.offset).ok()?;
    if bytes.get(at..at.checked_add(4)?)? != LOCAL {
        return None;
    }
    let begin = at + 30 + usize::from(u16_at(bytes, at + 26)?) + usize::from(u16_at(bytes, at + 28)?);
    let packed = bytes.get(begin..begin.checked_add(usize::try_from(member.packed).ok()?)?)?;
    let mut unpacked = Vec::new();
    match member.method {
        0 => unpacked.extend_from_slice(packed),
        // A damaged stream may unpack to far more than the archive says, so no more is read than that.
        8 => drop(DeflateDecoder::new(packed).take(member.unpacked + 1).read_to_end(&mut unpacked).ok()?),
        _ => return None,
    }
    let mut checksum = Crc::new();
    checksum.update(&unpacked);
    (unpacked.len() as u64 == member.unpacked && checksum.sum() == member.checksum).then_some(unpacked)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// Makes an archive as numpy writes it: local headers with a Zip64 field, then the directory.
    pub(in super::super) fn archive(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (name, content) in members {
            let mut packed = content.to_vec();
            if deflated {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content).unwrap();
                packed = encoder.finish().unwrap();
            }
            let mut checksum = Crc::new();
            checksum.update(content);
            let method = if deflated { 8_u16 } else { 0 };
            let common = [
                &45_u16.to_le_bytes()[..],
                &0_u16.to_le_bytes(),
                &method.to_le_bytes(),
                &[0; 4],
                &checksum.sum().to_le_bytes(),
            ]
            .concat();
            let sizes = [packed.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat();
            let length = (name.len() as u16).to_le_bytes();
            let offset = (bytes.len() as u32).to_le_bytes();
            bytes.extend([LOCAL, &common, &[0xff; 8], &length, &20_u16.to_le_bytes(), name.as_bytes()].concat());
            bytes.extend([1, 0, 16, 0]);
            bytes.extend([content.len() as u64, packed.len() as u64].map(u64::to_le_bytes).concat());
            bytes.extend(&packed);
            directory.extend([ENTRY, &[45, 3], &common, &sizes, &length, &[0; 12], &offset, name.as_bytes()].concat());
        }
        let begin = bytes.len() as u32;
        let count = (members.len() as u16).to_le_bytes();
        bytes.extend(&directory);
        bytes.extend([END, &[0; 4], &count, &count, &(directory.len() as u32).to_le_bytes()].concat());
        bytes.extend([&begin.to_le_bytes()[..], &[0; 2]].concat());
        bytes
    }

    fn text(bytes: &[u8], wanted: Option<&str>) -> Result<String, String> {
        let array = array(Path::new("e.npz"), bytes, wanted).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&array).into_owned())
    }

    #[test]
    fn finds_the_array() {
        for deflated in [false, true] {
            let one = archive(&[("arr_0.npy", b"abcabcabc")], deflated);
            assert_eq!(text(&one, None).unwrap(), "abcabcabc");
            let two = archive(&[("a.npy", b"first"), ("b.npy", b"second")], deflated);
            assert_eq!(text(&two, Some("b")).unwrap(), "second");
            assert_eq!(text(&two, Some("a.npy")).unwrap(), "first");
            assert_eq!(text(&two, None).unwrap_err(), "e.npz: has several arrays (a, b): say which, as in e.npz:a");
            assert_eq!(text(&two, Some("c")).unwrap_err(), "e.npz: array = c: expected one of the arrays a, b");
        }
    }

    #[test]
    fn damaged_archives_are_refused() {
        use rand::RngExt;
        let good = archive(&[("a.npy", b"first"), ("b.npy", b"second")], true);
        assert!(text(&good[..good.len() - 30], Some("a")).is_err());
        assert!(text(b"PK\x03\x04", None).unwrap_err().contains("the archive is damaged"));
        for seed in 0..500 {
            let mut generator = crate::draw::stream(seed, crate::draw::Purpose::Test, 6);
            let mut bytes = good.clone();
            for _ in 0..generator.random_range(1..4) {
                let at = generator.random_range(0..bytes.len());
                bytes[at] = generator.random();
            }
            let _ = text(&bytes, Some("a"));
        }
    }
}
