// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `zfs get -Hp -o name,property,value` prints: one property a line, separated by tabs, numbers in bytes, `none` as 0 or `-`
//! (zfs-get(8)). It knows the text only.

use std::collections::BTreeMap;

/// Numbers by dataset and property. A line that is none, or whose value is no number, is left out.
pub fn parse_get(text: &str) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        if let (Some(name), Some(property), Some(value), None) = (fields.next(), fields.next(), fields.next(), fields.next()) {
            if let Ok(value) = value.parse() {
                all.entry(name.to_owned()).or_default().insert(property.to_owned(), value);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_dataset() {
        let all =
            parse_get("tank/a b\trefquota\t8388608\ntank/a b\treferenced\t24576\ntank\tavailable\t-\nnoise\n\na\tb\t1\tc\n");
        assert_eq!(all["tank/a b"], BTreeMap::from([("refquota".into(), 8_388_608), ("referenced".into(), 24_576)]));
        assert_eq!(all.len(), 1);
    }
}
