//! Storage backend of redb for the ledger's file, with a layer that injects the faults of a test's plan.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::live::faults::Faults;

/// File of the ledger, locked for this process until it is closed.
#[derive(Debug)]
pub(super) struct Backend {
    file: FileBackend,
    faults: Option<Arc<Faults>>,
}

impl Backend {
    /// Opens the file, or makes an empty one.
    pub(super) fn open(path: &Path, faults: Option<Arc<Faults>>) -> Result<Self, redb::DatabaseError> {
        if let Some(faults) = &faults {
            faults.call(|| {}).map_err(redb::StorageError::Io)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = FileBackend::new(file.map_err(redb::StorageError::Io)?)?;
        Ok(Self { file, faults })
    }

    fn call(&self, short: impl FnOnce()) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.call(short))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.call(|| {})?;
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.call(|| {})?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(|| {})?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|| {})?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call(|| {
            // Half of the data is written, as by a disk that gets full.
            let _ = self.file.write(offset, &data[..data.len() / 2]);
        })?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
