//! The space that has to stay free on the disk of the workspaces.

use std::{fmt, io, path::Path};

/// Bytes that stay free, and the share of a small disk that is enough, in percent. What has to
/// go on is Postgres and the object store, and they need the same room on a large disk.
const RESERVED_BYTES: u64 = 512 << 20;
const ENOUGH_PERCENT: u64 = 5;

/// How full a file system is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    free: u64,
    total: u64,
}

impl Space {
    /// Looks at the file system `path` is on.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    /// True when attempts must not go on writing.
    pub(crate) fn is_short(self) -> bool {
        self.free < self.least()
    }

    fn least(self) -> u64 {
        RESERVED_BYTES.min(self.total / 100 * ENOUGH_PERCENT)
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(f, "{} MiB free, {} MiB have to stay free", mib(self.free), mib(self.least()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_gibibyte_stays_free_or_a_twentieth_of_a_small_disk() {
        let short = |free, total| Space { free, total }.is_short();
        assert!(short((512 << 20) - 1, 100 << 30) && !short(512 << 20, 100 << 30));
        assert!(short(50 << 20, 2 << 30) && !short(110 << 20, 2 << 30));
        assert!(Space::of(Path::new("/")).expect("found").total > 0);
    }
}
