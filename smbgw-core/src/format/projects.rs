// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/etc/projects` (`ID:PATH`, projects(5)) and `/etc/projid` (`NAME:ID`, projid(5)): which project ids somebody has given a meaning. It knows the
//! text only.

use std::collections::BTreeSet;

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

/// Ids of `/etc/projects`.
pub fn parse_projects(text: &str) -> BTreeSet<u32> {
    lines(text).filter_map(|l| l.split(':').next()?.trim().parse().ok()).collect()
}

/// Ids of `/etc/projid`.
pub fn parse_projid(text: &str) -> BTreeSet<u32> {
    lines(text).filter_map(|l| l.rsplit(':').next()?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_both_files() {
        assert_eq!(parse_projects("# none\n42:/var/log\n 7 :/srv\nx:/y\n\n42:/srv/b:c\n"), BTreeSet::from([7, 42]));
        assert_eq!(parse_projid("log:42\n#a:1\nb:4294967295\nbad:\n"), BTreeSet::from([42, u32::MAX]));
    }
}
