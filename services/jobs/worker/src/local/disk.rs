//! The space that has to stay free on the disk of the workspaces.

use std::{fmt, io, path::Path};

/// Bytes that stay free on any disk, and the share of a large one, in percent.
const LEAST_BYTES: u64 = 1 << 30;
const LEAST_PERCENT: u64 = 5;

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
        LEAST_BYTES.max(self.total / 100 * LEAST_PERCENT)
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
    fn a_gibibyte_or_a_twentieth_stays_free() {
        let short = |free, total| Space { free, total }.is_short();
        assert!(short((1 << 30) - 1, 2 << 30) && !short(1 << 30, 2 << 30));
        assert!(short(4 << 30, 100 << 30) && !short(5 << 30, 100 << 30));
        assert!(Space::of(Path::new("/")).expect("found").total > 0);
    }
}
