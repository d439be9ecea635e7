//! The supertrait of traits that only this crate implements.

/// Implemented for the types of the sealed traits. User code cannot name it.
#[expect(unnameable_types, reason = "a sealed trait must not be nameable outside")]
pub trait Sealed {}

impl Sealed for () {}

impl<T, E> Sealed for Result<T, E> {}
