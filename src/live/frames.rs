//! Frames on a pipe or a connection: the length of a header, the length of a tail, the header in JSON, and the tail of
//! raw bytes (pixels).

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::picture::Picture;

/// Largest length of a header, in bytes: room for a prompt or an embedding.
const LONGEST_HEADER: u32 = 16 << 20;
/// Largest length of a tail, in bytes: the largest picture.
pub(super) const LONGEST_TAIL: u32 = 3 * 16_384 * 16_384;

/// Header of a message, and the bytes that follow it.
#[derive(Debug)]
pub(super) struct Message<T> {
    pub(super) header: T,
    pub(super) tail: Vec<u8>,
}

/// Returns the picture of this width and height that `tail` holds. Refuses a tail of another length.
pub(super) fn picture([width, height]: [u32; 2], tail: Vec<u8>) -> io::Result<Picture> {
    let expected = u64::from(width) * u64::from(height) * 3;
    if tail.len() as u64 != expected {
        return Err(broken("a picture of another size"));
    }
    Ok(Picture::new(width, height, tail))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Encodes a message without its tail.
pub(super) fn head(header: &impl Serialize, tail: &[u8]) -> io::Result<Vec<u8>> {
    let header = serde_json::to_vec(header)?;
    let length = |bytes: usize| u32::try_from(bytes).map_err(|_| broken("a message that is too long"));
    let mut head = Vec::with_capacity(header.len() + 8);
    head.extend(length(header.len())?.to_le_bytes());
    head.extend(length(tail.len())?.to_le_bytes());
    head.extend(header);
    Ok(head)
}

/// Returns the lengths of header and tail, from the first eight bytes.
fn lengths(bytes: [u8; 8]) -> io::Result<(usize, usize)> {
    let both = u64::from_le_bytes(bytes);
    let (header, tail) = (both as u32, (both >> 32) as u32);
    // Other output on the pipe is refused here: its first bytes must not be waited for as a length.
    if header > LONGEST_HEADER || tail > LONGEST_TAIL {
        return Err(broken("no message"));
    }
    Ok((header as usize, tail as usize))
}

/// Reads the next message. Blocks the thread.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Message<T>> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    let (header_length, tail_length) = lengths(bytes)?;
    let (mut header, mut tail) = (vec![0; header_length], vec![0; tail_length]);
    from.read_exact(&mut header)?;
    from.read_exact(&mut tail)?;
    Ok(Message { header: serde_json::from_slice(&header)?, tail })
}

/// Receives the next message. Does not block the thread.
pub(super) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Message<T>> {
    receive_if(from, LONGEST_HEADER, |_, _| true).await
}

/// Receives the next message, from a sender that is not trusted: the header has at most `longest` bytes, and no memory
/// is taken for a tail that `accepts`, given the header and the length of the tail, does not accept.
pub(super) async fn receive_if<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    longest: u32,
    accepts: impl FnOnce(&T, usize) -> bool,
) -> io::Result<Message<T>> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).await?;
    let (header_length, tail_length) = lengths(bytes)?;
    if header_length > longest as usize {
        return Err(broken("a message that is too long"));
    }
    let mut header = vec![0; header_length];
    from.read_exact(&mut header).await?;
    let header = serde_json::from_slice(&header)?;
    if !accepts(&header, tail_length) {
        return Err(broken("a message that was not asked for"));
    }
    let mut tail = vec![0; tail_length];
    from.read_exact(&mut tail).await?;
    Ok(Message { header, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let pixels = [0, 10, 255, 1, 2, 3];
        let mut bytes = head(&("a \"red\" circle\n", 7), &pixels).expect("a head");
        bytes.extend(pixels);
        let read: Message<(String, u32)> = read(&mut bytes.as_slice()).expect("a message");
        assert_eq!(read.header, ("a \"red\" circle\n".to_owned(), 7));
        assert_eq!(picture([2, 1], read.tail).expect("a picture").bytes(), pixels);
        assert!(picture([2, 2], vec![0; 6]).is_err());
    }

    #[test]
    fn what_is_no_message_is_refused_and_not_waited_for() {
        let garbage = b"error: out of memory, and more";
        let refused = read::<String>(&mut garbage.as_slice()).expect_err("no message");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        let mut bytes = head(&7, &[]).expect("a head");
        assert_eq!(read::<String>(&mut bytes.as_slice()).expect_err("none").kind(), io::ErrorKind::InvalidData);
        bytes.truncate(8);
        assert_eq!(read::<u32>(&mut bytes.as_slice()).expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn no_memory_is_taken_for_what_was_not_asked_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let message = |header: &str, tail: usize| head(&header, &vec![0; tail]).expect("a head");
        let receive = |bytes: Vec<u8>| {
            let mut from = bytes.as_slice();
            runtime.block_on(receive_if::<String>(&mut from, 20, |header, tail| header == "a" && tail == 0))
        };
        assert_eq!(receive(message("a", 0)).expect("a message").header, "a");
        assert!(receive(message("b", 0)).is_err());
        assert!(receive(message("a", 1)).is_err());
        assert!(receive(message(&"a".repeat(30), 0)).is_err());
    }
}
