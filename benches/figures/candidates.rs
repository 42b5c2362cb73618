// SPDX-License-Identifier: MIT OR Apache-2.0
//! The codecs that were not chosen, as far as their size and speed can be compared: Gorilla's (XOR of doubles), and differences of whole
//! numbers under zstd, whose program compresses many chunks at a time.

use std::path::Path;
use std::process::Command;

/// Bits of a chunk by Gorilla's codec for values (Pelkonen et al., 2015, 4.1.2), without its times.
pub fn gorilla_bits(values: &[f64]) -> u64 {
    let mut bits = 64;
    let (mut leading, mut trailing) = (u32::MAX, 0);
    for pair in values.windows(2) {
        let xor = pair[0].to_bits() ^ pair[1].to_bits();
        if xor == 0 {
            bits += 1;
            continue;
        }
        let (l, t) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if leading != u32::MAX && l >= leading && t >= trailing {
            bits += 2 + u64::from(64 - leading - trailing);
        } else {
            (leading, trailing) = (l, t);
            bits += 2 + 5 + 6 + u64::from(64 - l - t);
        }
    }
    bits
}

/// A chunk as differences of whole numbers (or of the bits), each in as many groups of seven bits as it needs.
pub fn differences(values: &[f64]) -> Vec<u8> {
    let whole = values.iter().all(|v| *v == v.trunc() && v.abs() < 9e15);
    let number = |v: &f64| if whole { *v as i64 } else { v.to_bits() as i64 };
    let (mut bytes, mut last) = (vec![u8::from(whole)], 0);
    for n in values.iter().map(number) {
        let d = n.wrapping_sub(last);
        last = n;
        let mut rest = (d << 1 ^ d >> 63) as u64;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// Bytes of the chunks under zstd, without the four of its magic number; none where its program is missing.
pub fn zstd_bytes(dir: &Path, chunks: &[Vec<u8>], level: &str) -> Option<u64> {
    let mut command = Command::new("zstd");
    command.args(["-q", "-f", "--no-check", level]);
    let mut packed = Vec::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let path = dir.join(i.to_string());
        std::fs::write(&path, chunk).ok()?;
        command.arg(&path);
        packed.push(dir.join(format!("{i}.zst")));
    }
    command.status().ok().filter(std::process::ExitStatus::success)?;
    packed.iter().map(|p| std::fs::metadata(p).ok().map(|m| m.len() - 4)).sum()
}
