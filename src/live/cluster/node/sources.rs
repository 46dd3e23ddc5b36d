//! Pictures that a node keeps in memory, since later requests may be refined from them: those that it drew, and those
//! that it fetched. The least recently used goes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::image::ImageId;
use crate::live::picture::Picture;

/// Cache of sources of one session of the scheduler, whose images have no meaning in another.
#[derive(Debug)]
pub(super) struct SourceCache {
    session: String,
    pictures: BTreeMap<ImageId, (Arc<Picture>, u64)>,
    /// Images by the number of their latest use.
    uses: BTreeMap<u64, ImageId>,
    used: u64,
    bytes: usize,
    most_bytes: usize,
}

impl SourceCache {
    pub(super) fn new(most_bytes: usize) -> Self {
        let (pictures, uses) = (BTreeMap::new(), BTreeMap::new());
        Self { session: String::new(), pictures, uses, used: 0, bytes: 0, most_bytes }
    }

    fn enter(&mut self, session: &str) {
        if self.session != session {
            *self = Self::new(self.most_bytes);
            session.clone_into(&mut self.session);
        }
    }

    /// Returns the picture of an image of a session, if it is here.
    pub(super) fn get(&mut self, session: &str, image: ImageId) -> Option<Arc<Picture>> {
        self.enter(session);
        self.used += 1;
        let (picture, used) = self.pictures.get_mut(&image)?;
        self.uses.remove(&std::mem::replace(used, self.used));
        self.uses.insert(self.used, image);
        Some(picture.clone())
    }

    /// Keeps the picture of an image of a session.
    pub(super) fn keep(&mut self, session: &str, image: ImageId, picture: Arc<Picture>) {
        self.enter(session);
        self.remove(image);
        self.used += 1;
        self.bytes += picture.bytes().len();
        self.pictures.insert(image, (picture, self.used));
        self.uses.insert(self.used, image);
        while self.bytes > self.most_bytes {
            let Some((_, oldest)) = self.uses.first_key_value() else { return };
            self.remove(*oldest);
        }
    }

    fn remove(&mut self, image: ImageId) {
        if let Some((picture, used)) = self.pictures.remove(&image) {
            self.uses.remove(&used);
            self.bytes -= picture.bytes().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_and_a_session_sees_its_own_only() {
        let mut cache = SourceCache::new(9);
        let picture = || Arc::new(Picture::new(1, 1, vec![0; 3]));
        for row in 0..3 {
            cache.keep("s", ImageId::warm(row), picture());
        }
        assert!(cache.get("s", ImageId::warm(0)).is_some());
        cache.keep("s", ImageId::warm(3), picture());
        let there = |cache: &mut SourceCache, row| cache.get("s", ImageId::warm(row)).is_some();
        assert_eq!([0, 1, 2, 3].map(|row| there(&mut cache, row)), [true, false, true, true]);
        cache.keep("s", ImageId::warm(3), picture());
        assert_eq!(cache.bytes, 9, "the same picture is counted once");
        cache.keep("s", ImageId::warm(4), Arc::new(Picture::new(4, 1, vec![0; 12])));
        assert_eq!((cache.bytes, cache.pictures.len()), (0, 0), "what is too large is not kept");
        cache.keep("s", ImageId::warm(0), picture());
        assert!(cache.get("t", ImageId::warm(0)).is_none());
    }
}
