//! The programs under test, built by the tests themselves: cargo builds no other package's programs for a test.

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `p2pcore`
    Tokio,
    /// `p2pcore-smol`
    Smol,
}

impl Program {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tokio, Self::Smol];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "p2pcore",
            Self::Smol => "p2pcore-smol",
        }
    }

    /// The file, built before it is given away.
    pub fn path(self) -> PathBuf {
        static DIR: OnceLock<PathBuf> = OnceLock::new();
        DIR.get_or_init(build).join(self.name())
    }

    /// A command with these arguments.
    pub fn command<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.path());
        command.args(args).env_remove("P2PCORE_LOG").env_remove("RUST_LOG");
        command
    }
}

/// Runs `p2pcore` to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Program::Tokio.command(args).output().expect("the program starts")
}

/// Builds both in the profile and target directory of this test, which is `TARGET/PROFILE/deps/NAME-HASH`.
fn build() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let dir = test.ancestors().nth(2).expect("a test is in `deps`").to_owned();
    let profile = match dir.file_name().and_then(OsStr::to_str).expect("a profile has a name") {
        "debug" => "dev",
        other => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        // what cargo says of this test would make build scripts of dependencies run again, back and forth
        let told =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_", "CARGO_TARGET_TMP"];
        if name.to_str().is_some_and(|name| told.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["build", "--package", "p2pcore-tokio", "--package", "p2pcore-smol", "--bins", "--profile", profile])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .env("CARGO_TARGET_DIR", dir.parent().expect("a profile is in a target directory"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "the programs do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    dir
}
