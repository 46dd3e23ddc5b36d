//! Files that only one process uses at a time.

use std::fs::{File, TryLockError};
use std::io;

/// Locked file, which is unlocked when it is dropped. The lock also ends with the process, however the process ends.
///
/// Closing the file would not be enough. A child that another thread starts at this moment has a copy of the open file
/// until it runs its program, and a lock stays while any copy is open.
#[derive(Debug)]
pub(crate) struct LockedFile(File);

impl LockedFile {
    /// Locks a file that no other process may use meanwhile.
    ///
    /// # Errors
    /// Returns [`TryLockError::WouldBlock`] if the file is locked already, or the error of the system.
    pub(crate) fn alone(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// Locks a file that others may lock in this way as well.
    ///
    /// # Errors
    /// The errors are those of [`Self::alone`].
    pub(crate) fn shared(file: File) -> Result<Self, TryLockError> {
        file.try_lock_shared()?;
        Ok(Self(file))
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // A failure leaves what closing does.
        let _ = self.0.unlock();
    }
}

/// Returns the error of the system that stands for a file that could not be locked.
pub(crate) fn not_locked(error: TryLockError) -> io::Error {
    match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "is in use by another run"),
        TryLockError::Error(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_though_a_child_has_a_copy_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || file.reopen().unwrap();
        for lock in [LockedFile::alone, LockedFile::shared] {
            let locked = lock(open()).unwrap();
            assert!(matches!(LockedFile::alone(open()), Err(TryLockError::WouldBlock)));
            let copy_of_a_child = locked.0.try_clone().unwrap();
            drop(locked);
            drop(LockedFile::alone(open()).unwrap());
            drop(copy_of_a_child);
        }
        let together = (LockedFile::shared(open()).unwrap(), LockedFile::shared(open()).unwrap());
        assert!(LockedFile::alone(open()).is_err());
        drop(together);
        assert!(LockedFile::alone(open()).is_ok());
    }
}
