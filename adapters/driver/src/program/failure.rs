//! How a program says why it could not do what it was asked.

use std::{fmt, io, process::ExitCode};

use crate::StateError;

/// One line for standard error, and the exit status 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(String);

impl Failure {
    pub(super) fn new(line: impl fmt::Display) -> Self {
        Self(line.to_string())
    }

    /// `what` names the thing that was tried, as in `cannot read the network key x`.
    pub(super) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self(format!("{what}: {}", io_text(error)))
    }

    pub(super) fn report(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {self}");
        ExitCode::FAILURE
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // a path or a name in it could hold a line break
        f.write_str(&self.0.replace(['\n', '\r'], " "))
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::new(error)
    }
}

/// The text of an error of the system, in lower case and without its number.
pub(super) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_lower_case_without_a_number() {
        assert_eq!(io_text(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(io_text(&io::Error::other("UDP is off")), "UDP is off");
    }

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(Failure::new("cannot read `a\nb`").to_string(), "cannot read `a b`");
    }
}
