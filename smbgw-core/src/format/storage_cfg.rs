// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/etc/pve/storage.cfg` as Proxmox VE writes it: read only, and only where a plan has to know which storages there are. It knows the form
//! of the file; it must not know what a storage is for.

use std::collections::BTreeMap;

/// Sections by id; each has its type under `type`.
pub fn parse(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        if line.trim().is_empty() {
            current = None;
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        if !line.starts_with([' ', '\t']) {
            current = line.split_once(':').map(|(kind, id)| {
                let id = id.trim().to_owned();
                sections.entry(id.clone()).or_default().insert("type".into(), kind.trim().to_owned());
                id
            });
            continue;
        }
        if let Some(section) = current.as_ref().and_then(|id| sections.get_mut(id)) {
            let line = line.trim();
            // A key alone means yes, as in `disable`.
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, "1"));
            section.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keys_and_flags() {
        let text = "dir: local\n\tpath /var/lib/vz\n\tcontent iso,vztmpl\n\nlvmthin: local-lvm\n\tthinpool data\n\tvgname pve\n\n# note\nnfs: nas\n\tdisable\n";
        let all = parse(text);
        assert_eq!(all.len(), 3);
        assert_eq!(
            (all["local"]["path"].as_str(), all["local"]["type"].as_str(), all["nas"]["disable"].as_str()),
            ("/var/lib/vz", "dir", "1")
        );
        assert_eq!(
            parse("\tkey value\n:\n"),
            BTreeMap::from([(String::new(), BTreeMap::from([("type".to_owned(), String::new())]))])
        );
    }
}
