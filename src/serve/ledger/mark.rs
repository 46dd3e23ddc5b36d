//! Number of the last acknowledged transaction, in a file beside the ledger. A damaged ledger can open in the state of
//! an earlier transaction, or empty: this number reveals that. The file is written after each transaction and never
//! synced. It may therefore be behind the ledger after a power cut, but it is never ahead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FILE: &str = "ledger.mark";
/// Number of bytes of the file: a number of twenty digits and a line break.
const LENGTH: usize = 21;

#[derive(Debug)]
pub(in crate::serve) struct Mark {
    file: File,
    /// Number of the last acknowledged transaction; 0 if it is not known.
    pub(in crate::serve) sequence: u64,
    /// True if the file had content that is not a mark.
    pub(in crate::serve) is_damaged: bool,
}

/// Returns the path of the file in a folder.
pub(in crate::serve) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Parses the text of a mark into the number of the transaction.
pub(in crate::serve) fn parse(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?.strip_suffix('\n')?;
    (text.len() == LENGTH - 1 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

impl Mark {
    /// Opens the mark of a folder, or makes an empty one.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path(folder))?;
        let mut text = vec![0; LENGTH];
        let length = file.metadata()?.len();
        let read = if length == 0 { None } else { Some(file.read_exact_at(&mut text, 0)) };
        let sequence = read.as_ref().and_then(|read| parse(&text).filter(|_| read.is_ok() && length == LENGTH as u64));
        Ok(Self { file, sequence: sequence.unwrap_or(0), is_damaged: read.is_some() && sequence.is_none() })
    }

    /// Writes the number of a transaction that is about to be acknowledged.
    pub(super) fn write(&mut self, sequence: u64) -> io::Result<()> {
        // The number in memory is set even if the file cannot be written: a reopening of the database is checked
        // against it.
        self.sequence = sequence;
        let text = format!("{sequence:0width$}\n", width = LENGTH - 1);
        self.file.write_all_at(text.as_bytes(), 0)?;
        if self.is_damaged {
            // A damaged mark may be longer than the text that was written over its beginning.
            self.file.set_len(LENGTH as u64)?;
            self.is_damaged = false;
        }
        Ok(())
    }
}
