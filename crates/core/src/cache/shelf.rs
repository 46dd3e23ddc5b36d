//! Shelves of the image cache: what the images of one index have in common, and which images are resized for a request.
//! Images of another key are no candidates for a request; images of another size are some within limits
//! (docs/semantics.md, section 10).

use crate::model::Size;
use crate::request::Owner;

/// Properties that the images of one index have in common. The owner of the shelf of an index is [`Owner::Public`]
/// where all owners share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelf {
    /// Owner of the images.
    pub owner: Owner,
    /// Key that images and requests must have in common.
    pub key: u32,
    /// Size of the images.
    pub size: Size,
}

impl Shelf {
    /// Returns the shelf of an owner's images of the usual size, without a key.
    #[must_use]
    pub const fn of(owner: Owner) -> Self {
        Self { owner, key: 0, size: Size::USUAL }
    }

    /// Returns whether the images have neither a key nor a size of their own.
    #[inline]
    pub(super) fn is_usual(&self) -> bool {
        self.key == 0 && self.size.is_usual()
    }
}

/// Limits within which an image is resized for a request of another size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resizing {
    /// Size for which [`Size::USUAL`] stands.
    pub usual: Size,
    /// Largest ratio between the aspect ratios, at least 1.
    pub aspect: f64,
    /// Largest ratio between the numbers of pixels, at least 1.
    pub factor: f64,
}

impl Default for Resizing {
    /// Returns limits within which no image is resized.
    fn default() -> Self {
        Self { usual: Size::USUAL, aspect: 1.0, factor: 1.0 }
    }
}

impl Resizing {
    /// Returns whether an image of one size serves a request of another.
    #[must_use]
    pub fn allows(&self, image: Size, request: Size) -> bool {
        if image == request {
            return true;
        }
        let real = |size: Size| if size.is_usual() { self.usual } else { size };
        let (image, request) = (real(image), real(request));
        // Whole numbers below 2^32 are exact, and equal shapes have the ratio 1.
        let product = |width: u16, height: u16| f64::from(width) * f64::from(height);
        let ratio = |a: f64, b: f64| if a < b { b / a } else { a / b };
        let aspect = ratio(product(image.width, request.height), product(request.width, image.height));
        let factor = ratio(product(image.width, image.height), product(request.width, request.height));
        // A size that is not known fits no other: the ratio is no number then.
        aspect <= self.aspect && factor <= self.factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_serves_sizes_of_a_similar_shape() {
        let limits = Resizing { usual: Size { width: 1024, height: 1024 }, aspect: 1.1, factor: 4.0 };
        let allows = |image, request| limits.allows(Size::from(image), Size::from(request));
        assert!(allows((0, 0), (0, 0)) && allows((0, 0), (512, 512)) && allows((512, 512), (1024, 1024)));
        assert!(allows((1024, 1024), (1100, 1000)) && !allows((1024, 1024), (1130, 1000)));
        assert!(!allows((512, 512), (1025, 1025)) && !allows((768, 512), (512, 768)));
        assert!(allows((768, 512), (1536, 1024)) && !allows((768, 512), (1540, 1024)));
        let alone = Resizing { aspect: 1.0, factor: 1.0, ..limits };
        assert!(alone.allows(Size::USUAL, Size { width: 1024, height: 1024 }));
        assert!(!alone.allows(Size::USUAL, Size { width: 1024, height: 1023 }));
        // Nothing is known of the usual size.
        assert!(!Resizing::default().allows(Size::USUAL, Size { width: 8, height: 8 }));
    }
}
