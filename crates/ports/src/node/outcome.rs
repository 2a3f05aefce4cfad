//! What a handler may return.

use crate::Reason;

/// What a handler may return: nothing, or a result whose error ends the port. Any error of the standard
/// kind is a [`Reason`], so `?` works.
pub trait Outcome {
    /// The reason to end the port, if there is one.
    ///
    /// # Errors
    /// That reason.
    fn into_result(self) -> Result<(), Reason>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Reason> {
        Ok(())
    }
}

impl Outcome for Result<(), Reason> {
    fn into_result(self) -> Result<(), Reason> {
        self
    }
}
