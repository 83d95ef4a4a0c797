//! Whether the kernel ended processes of the attempt because memory ran out.

use std::fs;

/// Of the container's own group: cgroup v2, v1.
const COUNTS: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// How many processes it has ended so; none where nothing says that.
pub(crate) fn kills() -> u64 {
    // Not the first process: not a container of its own, and the counts are of others, too.
    if std::process::id() != 1 {
        return 0;
    }
    COUNTS.iter().find_map(|file| counted(&fs::read_to_string(file).ok()?)).unwrap_or(0)
}

/// Both formats have a line of this name:
/// <https://docs.kernel.org/admin-guide/cgroup-v2.html>,
/// <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>.
fn counted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn both_versions_of_cgroups_are_read() {
        assert_eq!(
            counted("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n"),
            Some(2),
            "version 2"
        );
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), Some(1), "version 1");
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\n"), None, "an old kernel");
    }
}
