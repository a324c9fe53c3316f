//! Traits of owning handles: what can be on a list, be carved, or be handed out by a bulk request.

use crate::base::raw_page::RawPage;
use crate::page::page::{Folio, Page};
use crate::page::source::PageSource;

/// What can be on a [`PageList`](crate::PageList): a [`Page`], a [`Folio`] or a
/// [`SharedPage`](crate::handles::SharedPage).
pub trait Listable: Sized + sealed::Sealed {
    /// How the page finds its allocator.
    type Source: PageSource;

    /// Makes the owner of a block that has none: an allocator or a list has just given it up.
    #[doc(hidden)]
    fn from_unowned(source: Self::Source, block: Unowned) -> Self;

    /// Whether items of this kind are the only holders of their frames.
    #[doc(hidden)]
    const IS_SOLE: bool;

    /// Returns whether the list's raw page is the only holder of its frame.
    #[doc(hidden)]
    fn is_last(source: &Self::Source, raw: RawPage) -> bool;
}

/// An item that is the only holder of its frames, and so can always be put on a list: a [`Page`] or a
/// [`Folio`].
pub trait Owned: Listable {
    /// Returns how the item finds its allocator.
    #[doc(hidden)]
    fn its_source(&self) -> &Self::Source;

    /// Returns the item's word.
    #[doc(hidden)]
    fn its_word(&self) -> RawPage;

    /// Gives up the ownership without freeing the frames.
    #[doc(hidden)]
    fn take_apart(self) -> (RawPage, Self::Source);
}

/// A block that no handle owns. Only this crate makes one, so that no other crate can make the owner
/// of a block that has one already.
#[derive(Debug)]
#[expect(unnameable_types, reason = "sealed")]
pub struct Unowned(pub(crate) RawPage);

pub(crate) mod sealed {
    /// Sealed: an item on a list must be the only user of its frame's link, which other types might not
    /// be. After `take_apart`, it must leave its frames to the holder of the word.
    #[expect(unnameable_types, reason = "sealed")]
    pub trait Sealed {}
}

/// Implements the traits of owning handles for the two that are alone with their frames.
macro_rules! owned {
    ($Owner:ident) => {
        impl<S: PageSource> sealed::Sealed for $Owner<S> {}

        impl<S: PageSource> Listable for $Owner<S> {
            type Source = S;

            const IS_SOLE: bool = true;

            #[inline]
            fn from_unowned(source: S, Unowned(raw): Unowned) -> Self {
                Self::new(source, raw)
            }

            #[inline]
            fn is_last(_source: &S, _raw: RawPage) -> bool {
                true
            }
        }

        impl<S: PageSource> Owned for $Owner<S> {
            #[inline]
            fn its_source(&self) -> &S {
                self.source()
            }

            #[inline]
            fn its_word(&self) -> RawPage {
                self.raw()
            }

            #[inline]
            fn take_apart(self) -> (RawPage, S) {
                self.into_parts()
            }
        }
    };
}

owned!(Page);
owned!(Folio);
