//! Tuples of errors, for a check for one of several.
use crate::sealed::Sealed;
use std::{any::TypeId, error::Error};

/// A tuple of up to eight errors or kinds, for
/// [`Failure::check_any`](crate::failure::Failure::check_any) and
/// [`Failure::trap_any`](crate::failure::Failure::trap_any).
pub trait ErrorTuple: Sealed {
    #[doc(hidden)]
    fn any(is: &dyn Fn(TypeId) -> bool) -> bool;
}

macro_rules! error_tuple {
    ($($name:ident),+) => {
        impl<$($name: Error + 'static),+> Sealed for ($($name,)+) {}

        impl<$($name: Error + 'static),+> ErrorTuple for ($($name,)+) {
            fn any(is: &dyn Fn(TypeId) -> bool) -> bool {
                $(is(TypeId::of::<$name>()))||+
            }
        }
    };
}

error_tuple!(A);
error_tuple!(A, B);
error_tuple!(A, B, C);
error_tuple!(A, B, C, D);
error_tuple!(A, B, C, D, E);
error_tuple!(A, B, C, D, E, F);
error_tuple!(A, B, C, D, E, F, G);
error_tuple!(A, B, C, D, E, F, G, H);
