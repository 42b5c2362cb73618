// SPDX-License-Identifier: MIT OR Apache-2.0
//! How figures are packed: the values of one series in one block of time, the times of a block, the buckets of a roll-up, and a row of the
//! newest values. It knows bits; it must not know what is measured or where the bytes are kept. docs/METRICS-STORE.md says the same in words.
//!
//! Values become whole numbers (themselves times a power of ten where that is exact, else their bits), those lose the zero bits that all end in and
//! become differences of order 0, 1 or 2, and each difference is written with one of four widths that are the best for this chunk, zeros
//! also as runs. A constant is a few bytes. What comes out is what went in, to the bit.
//!
//! Measured on chunks of 360 values of 12 metrics of a share (`cargo bench -p smbgw-core --bench series`), in bytes per value:
//!
//! | | this | Gorilla (XOR) | differences under zstd -19 |
//! |---|---|---|---|
//! | nobody has the share open | 0.014 | 0.147 | 0.045 |
//! | some people, now and then | 0.199 | 0.330 | 0.249 |
//! | an office full of them | 0.592 | 0.792 | 0.682 |
//!
//! It is the smallest of the three in each case, needs no library in C that decodes what a disk may have changed, and takes about 60 ns to pack and
//! 10 ns to unpack a value. Where values are neither whole nor decimal (latencies), differences of bits are as good as XOR, which is why there is no fourth way for them.

use super::Bucket;

/// Series in one row of newest values.
pub const PART: usize = 256;
/// Slots that a chunk can have.
pub const LIMIT: usize = 1 << 16;
/// Largest power of ten that a value is tried with.
const DECIMALS: u32 = 9;
/// Whole numbers that a double can hold without a doubt.
const EXACT: f64 = 9_007_199_254_740_992.0;

// ----------------------------------------------------------------------------------------------------------------- bits

/// Bits, the first one highest in the first byte.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// The last bits, fewer than eight.
    rest: u64,
    used: u32,
}

impl Writer {
    fn put(&mut self, value: u64, width: u32) {
        if width > 32 {
            self.put(value >> 32, width - 32);
            return self.put(value & 0xffff_ffff, 32);
        }
        self.rest = self.rest << width | (value & ((1 << width) - 1));
        self.used += width;
        while self.used >= 8 {
            self.used -= 8;
            self.bytes.push((self.rest >> self.used) as u8);
        }
        self.rest &= (1 << self.used) - 1;
    }

    /// A number from 1 on: as many zeros as it has bits after the first one, then its bits.
    fn gamma(&mut self, value: u64) {
        let width = 63 - value.max(1).leading_zeros();
        self.put(0, width);
        self.put(value.max(1), width + 1);
    }

    /// How many bits a number has, then the bits.
    fn number(&mut self, value: u64) {
        let width = len(value);
        self.put(u64::from(width), 7);
        self.put(value, width);
    }

    fn end(mut self) -> Vec<u8> {
        if self.used > 0 {
            self.put(0, 8 - self.used);
        }
        self.bytes
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

impl Reader<'_> {
    fn get(&mut self, width: u32) -> Option<u64> {
        if width > 32 {
            let high = self.get(width - 32)?;
            return Some(high << 32 | self.get(32)?);
        }
        if width == 0 {
            return Some(0);
        }
        let end = self.at + width as usize;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let first = self.at / 8;
        let word = match self.bytes.get(first..first + 8) {
            Some(eight) => u64::from_be_bytes(eight.try_into().ok()?),
            None => {
                let mut eight = [0; 8];
                let left = &self.bytes[first..];
                eight[..left.len()].copy_from_slice(left);
                u64::from_be_bytes(eight)
            }
        };
        let value = word << (self.at % 8) >> (64 - width);
        self.at = end;
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        self.get(1).map(|b| b == 1)
    }

    fn gamma(&mut self) -> Option<u64> {
        let mut width = 0;
        while !self.flag()? {
            width += 1;
            if width > 32 {
                return None;
            }
        }
        Some(1 << width | self.get(width)?)
    }

    fn number(&mut self) -> Option<u64> {
        let width = self.get(7)? as u32;
        if width > 64 { None } else { self.get(width) }
    }

    /// Nothing but the zeros that fill the last byte is left.
    fn ended(&self) -> bool {
        self.at.div_ceil(8) == self.bytes.len()
    }
}

/// Bits of a number.
fn len(value: u64) -> u32 {
    64 - value.leading_zeros()
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

// -------------------------------------------------------------------------------------------------------------- columns

/// Whole numbers as differences, with what it takes to write them.
struct Coded {
    order: u64,
    /// What the differences begin with.
    base: [i64; 2],
    differences: Vec<u64>,
    widths: [u32; 4],
    runs: bool,
    bits: u64,
}

/// The order that says: all numbers are `base[0]`.
const SAME: u64 = 3;

fn differences(order: u64, numbers: &[i64]) -> ([i64; 2], Vec<u64>) {
    let first = numbers.first().copied().unwrap_or_default();
    let by = |a: i64, b: i64| b.wrapping_sub(a);
    match order {
        0 => {
            let least = numbers.iter().copied().min().unwrap_or_default();
            ([least, 0], numbers.iter().map(|n| n.wrapping_sub(least) as u64).collect())
        }
        1 => ([first, 0], numbers.windows(2).map(|w| zigzag(by(w[0], w[1]))).collect()),
        _ => {
            let step = numbers.get(1).map_or(0, |n| by(first, *n));
            ([first, step], numbers.windows(3).map(|w| zigzag(by(by(w[0], w[1]), by(w[1], w[2])))).collect())
        }
    }
}

/// The four widths that need the fewest bits, and how many: of `0`, `10`, `110` and `111`, each followed by a difference of that width.
fn widths(differences: &[u64]) -> ([u32; 4], u64) {
    let mut within = [0u64; 65];
    for d in differences {
        within[len(*d) as usize] += 1;
    }
    let lengths: Vec<u32> = (0..=64).filter(|l| within[*l as usize] > 0).collect();
    for l in 1..=64 {
        within[l] += within[l - 1];
    }
    let all = differences.len() as u64;
    let largest = lengths.last().copied().unwrap_or_default();
    let within = |l: u32| within[l as usize];
    // The best first width for each second one, then the best of both for each third one.
    let mut two: Vec<(u64, u32, u32)> = Vec::with_capacity(lengths.len());
    for (i, &second) in lengths.iter().enumerate() {
        let cost = |first: u32| within(first) * u64::from(1 + first) + (within(second) - within(first)) * u64::from(2 + second);
        two.extend(lengths[..=i].iter().map(|&first| (cost(first), first, second)).min());
    }
    let mut best = (u64::MAX, [0; 4]);
    for (i, &third) in lengths.iter().enumerate() {
        let rest = (all - within(third)) * u64::from(3 + largest);
        for &(cost, first, second) in &two[..=i] {
            let cost = cost + (within(third) - within(second)) * u64::from(3 + third) + rest;
            if cost < best.0 {
                best = (cost, [first, second, third, largest]);
            }
        }
    }
    if lengths.is_empty() { ([0; 4], 0) } else { (best.1, best.0) }
}

/// Lengths of the stretches of zeros.
fn zero_runs(differences: &[u64]) -> impl Iterator<Item = u64> {
    differences.chunk_by(|a, b| (*a == 0) == (*b == 0)).filter(|c| c[0] == 0).map(|c| c.len() as u64)
}

fn coded(order: u64, numbers: &[i64]) -> Coded {
    let (base, differences) = differences(order, numbers);
    let (widths, mut bits) = widths(&differences);
    let mut runs = false;
    if widths[0] == 0 {
        let (zeros, as_runs) =
            zero_runs(&differences).fold((0, 0), |(z, r), n| (z + n, r + 2 + 2 * u64::from(63 - n.leading_zeros())));
        runs = as_runs < zeros;
        bits = if runs { bits - zeros + as_runs } else { bits };
    }
    Coded { order, base, differences, widths, runs, bits }
}

/// Writes whole numbers without the zeros that all of them end in, in the order (of differences) that is shortest.
fn put_numbers(w: &mut Writer, numbers: &[i64]) {
    let first = numbers.first().copied().unwrap_or_default();
    if numbers.iter().all(|n| *n == first) {
        w.put(SAME, 2);
        return w.number(zigzag(first));
    }
    let shift = numbers.iter().fold(0, |all, n| all | n).trailing_zeros();
    let numbers: Vec<i64> = numbers.iter().map(|n| n >> shift).collect();
    let mut c = coded(0, &numbers);
    for order in 1..SAME {
        let other = coded(order, &numbers);
        c = if other.bits < c.bits { other } else { c };
    }
    w.put(c.order, 2);
    w.put(u64::from(shift), 6);
    w.number(zigzag(c.base[0]));
    if c.order == 2 {
        w.number(zigzag(c.base[1]));
    }
    c.widths.iter().for_each(|width| w.put(u64::from(*width), 7));
    w.put(u64::from(c.runs), 1);
    let mut at = 0;
    while let Some(&d) = c.differences.get(at) {
        let class = c.widths.iter().position(|width| len(d) <= *width).unwrap_or(3);
        w.put([0b0, 0b10, 0b110, 0b111][class], [1, 2, 3, 3][class]);
        if class == 0 && c.runs {
            let run = c.differences[at..].iter().take_while(|d| **d == 0).count();
            w.gamma(run as u64);
            at += run;
        } else {
            w.put(d, c.widths[class]);
            at += 1;
        }
    }
}

fn get_numbers(r: &mut Reader, count: usize) -> Option<Vec<i64>> {
    let order = r.get(2)?;
    if order == SAME {
        return Some(vec![unzigzag(r.number()?); count]);
    }
    let shift = r.get(6)?;
    let first = unzigzag(r.number()?);
    let step = if order == 2 { unzigzag(r.number()?) } else { 0 };
    let mut widths = [0; 4];
    for width in &mut widths {
        *width = r.get(7)? as u32;
        if *width > 64 {
            return None;
        }
    }
    let runs = r.flag()?;
    let skip = (order as usize).min(count);
    let mut numbers = Vec::with_capacity(count);
    numbers.extend([first, first.wrapping_add(step)].into_iter().take(skip));
    let (mut last, mut step) = (numbers.last().copied().unwrap_or(first), step);
    while numbers.len() < count {
        let class = if !r.flag()? {
            0
        } else if !r.flag()? {
            1
        } else if !r.flag()? {
            2
        } else {
            3
        };
        let (d, times) = if class == 0 && runs { (0, r.gamma()? as usize) } else { (r.get(widths[class])?, 1) };
        if times > count - numbers.len() {
            return None;
        }
        for _ in 0..times {
            match order {
                0 => last = first.wrapping_add(d as i64),
                1 => last = last.wrapping_add(unzigzag(d)),
                _ => {
                    step = step.wrapping_add(unzigzag(d));
                    last = last.wrapping_add(step);
                }
            }
            numbers.push(last);
        }
    }
    numbers.iter_mut().for_each(|n| *n <<= shift);
    Some(numbers)
}

/// The whole number that a value is times a power of ten, if that is exact.
fn whole(value: f64, power: f64) -> Option<i64> {
    let number = (value * power).round();
    // As it is read back: a negative zero is not.
    let back = number as i64 as f64 / power;
    (number.abs() < EXACT && back.to_bits() == value.to_bits()).then_some(number as i64)
}

/// Writes values.
fn put_values(w: &mut Writer, values: &[f64]) {
    let mut decimals = 0;
    for v in values {
        while decimals <= DECIMALS && whole(*v, 10f64.powi(decimals as i32)).is_none() {
            decimals += 1;
        }
        if decimals > DECIMALS {
            break;
        }
    }
    let power = 10f64.powi(decimals as i32);
    let exact = || values.iter().map(|v| whole(*v, power)).collect::<Option<Vec<i64>>>();
    if let Some(numbers) = (decimals <= DECIMALS).then(exact).flatten() {
        w.put(0, 1);
        w.put(u64::from(decimals), 4);
        return put_numbers(w, &numbers);
    }
    w.put(1, 1);
    put_numbers(w, &values.iter().map(|v| v.to_bits() as i64).collect::<Vec<_>>());
}

fn get_values(r: &mut Reader, count: usize) -> Option<Vec<f64>> {
    if !r.flag()? {
        let power = 10f64.powi(r.get(4)? as i32);
        return Some(get_numbers(r, count)?.into_iter().map(|n| n as f64 / power).collect());
    }
    Some(get_numbers(r, count)?.into_iter().map(|n| f64::from_bits(n as u64)).collect())
}

/// Writes which slots have something.
fn put_presence(w: &mut Writer, present: impl Iterator<Item = bool> + Clone) {
    let all = present.clone().all(|p| p);
    w.put(u64::from(all), 1);
    if all {
        return;
    }
    let mut present = present.peekable();
    w.put(u64::from(present.peek() == Some(&true)), 1);
    while let Some(first) = present.next() {
        let mut run = 1;
        while present.next_if_eq(&first).is_some() {
            run += 1;
        }
        w.gamma(run);
    }
}

fn get_presence(r: &mut Reader, slots: usize) -> Option<Vec<bool>> {
    if r.flag()? {
        return Some(vec![true; slots]);
    }
    let mut present = Vec::with_capacity(slots);
    let mut now = r.flag()?;
    while present.len() < slots {
        let run = r.gamma()? as usize;
        if run > slots - present.len() {
            return None;
        }
        present.resize(present.len() + run, now);
        now = !now;
    }
    Some(present)
}

/// Puts what was read back into its slots.
fn spread<T>(present: Vec<bool>, mut found: impl Iterator<Item = T>) -> Vec<Option<T>> {
    present.into_iter().map(|p| if p { found.next() } else { None }).collect()
}

// --------------------------------------------------------------------------------------------------------------- chunks

/// The steps of the check sum for each byte.
const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A check sum (CRC-16/CCITT-FALSE, the higher byte first): finds what a disk changed, not what somebody made up.
fn sum(bytes: &[u8]) -> [u8; 2] {
    bytes.iter().fold(0xffff_u16, |crc, b| crc << 8 ^ CRC[usize::from((crc >> 8) as u8 ^ b)]).to_be_bytes()
}

fn sealed(w: Writer) -> Vec<u8> {
    let mut bytes = w.end();
    let sum = sum(&bytes);
    bytes.extend(sum);
    bytes
}

fn unsealed(chunk: &[u8]) -> Option<Reader<'_>> {
    let (bytes, end) = chunk.split_last_chunk::<2>()?;
    (sum(bytes) == *end).then_some(Reader { bytes, at: 0 })
}

/// The values of a series in the slots of a block.
pub fn encode(slots: &[Option<f64>]) -> Vec<u8> {
    let mut w = Writer::default();
    put_presence(&mut w, slots.iter().map(Option::is_some));
    let values: Vec<f64> = slots.iter().copied().flatten().collect();
    put_values(&mut w, &values);
    sealed(w)
}

/// Reads what [`encode`] wrote for so many slots; none if it is not that.
pub fn decode(chunk: &[u8], slots: usize) -> Option<Vec<Option<f64>>> {
    let mut r = unsealed(chunk).filter(|_| slots <= LIMIT)?;
    let present = get_presence(&mut r, slots)?;
    let count = present.iter().filter(|p| **p).count();
    let values = get_values(&mut r, count)?;
    r.ended().then(|| spread(present, values.into_iter()))
}

/// The times of a block, at most [`LIMIT`].
pub fn encode_times(times: &[i64]) -> Vec<u8> {
    let mut w = Writer::default();
    w.put(times.len() as u64, 17);
    put_numbers(&mut w, times);
    sealed(w)
}

/// Reads what [`encode_times`] wrote; none if it is not that.
pub fn decode_times(chunk: &[u8]) -> Option<Vec<i64>> {
    let mut r = unsealed(chunk)?;
    let count = r.get(17)? as usize;
    let times = if count <= LIMIT { get_numbers(&mut r, count)? } else { return None };
    r.ended().then_some(times)
}

/// A value with so many bits after the first one.
fn rounded(value: f64, bits: u32) -> f64 {
    let drop = 52 - bits.min(52);
    let half = if drop == 0 { 0 } else { 1u64 << (drop - 1) };
    let near = f64::from_bits((value.to_bits().wrapping_add(half)) >> drop << drop);
    if near.is_finite() && value.is_finite() { near } else { value }
}

/// Bits that a mean keeps, and of a rate also its extremes: an error of at most one in 16,384.
const ROUND: u32 = 13;

/// The buckets of a roll-up. Their beginnings are the slots' and not written. Means that are no whole sum by count are rounded, and of rates
/// the smallest and largest too (see [`ROUND`]); everything else is exact.
pub fn encode_buckets(slots: &[Option<Bucket>], rates: bool) -> Vec<u8> {
    let mut w = Writer::default();
    put_presence(&mut w, slots.iter().map(Option::is_some));
    let column = |of: &dyn Fn(&Bucket) -> f64| slots.iter().flatten().map(of).collect::<Vec<f64>>();
    let extreme = |v: f64| if rates { rounded(v, ROUND) } else { v };
    let (min, max, mean) = (column(&|b| extreme(b.min)), column(&|b| extreme(b.max)), column(&|b| b.mean));
    let counts: Vec<i64> = slots.iter().flatten().map(|b| i64::from(b.count)).collect();
    put_numbers(&mut w, &counts);
    put_values(&mut w, &min);
    let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    let flat = same(&min, &max);
    w.put(u64::from(flat), 1);
    // The mean of what is all the same is that: it lies between the others.
    if flat {
        return sealed(w);
    }
    put_values(&mut w, &max);
    let whole_sum = |(mean, count): (&f64, &i64)| {
        let sum = (mean * *count as f64).round();
        (sum.abs() < EXACT && (sum as i64 as f64 / *count as f64).to_bits() == mean.to_bits()).then_some(sum as i64)
    };
    match mean.iter().zip(&counts).map(whole_sum).collect::<Option<Vec<i64>>>() {
        Some(sums) => {
            w.put(1, 1);
            put_numbers(&mut w, &sums);
        }
        None => {
            w.put(0, 1);
            put_values(&mut w, &mean.iter().map(|m| rounded(*m, ROUND)).collect::<Vec<_>>());
        }
    }
    sealed(w)
}

/// Reads what [`encode_buckets`] wrote for so many slots of a length from a beginning on; none if it is not that.
pub fn decode_buckets(chunk: &[u8], slots: usize, start: i64, length: i64) -> Option<Vec<Bucket>> {
    let mut r = unsealed(chunk).filter(|_| slots <= LIMIT)?;
    let present = get_presence(&mut r, slots)?;
    let n = present.iter().filter(|p| **p).count();
    let counts = get_numbers(&mut r, n)?;
    let min = get_values(&mut r, n)?;
    let flat = r.flag()?;
    let max = if flat { min.clone() } else { get_values(&mut r, n)? };
    let mean = if flat {
        min.clone()
    } else if r.flag()? {
        get_numbers(&mut r, n)?.into_iter().zip(&counts).map(|(sum, count)| sum as f64 / *count as f64).collect()
    } else {
        get_values(&mut r, n)?
    };
    if !r.ended() {
        return None;
    }
    let starts =
        present.iter().enumerate().filter(|(_, p)| **p).map(|(i, _)| start.saturating_add(length.saturating_mul(i as i64)));
    starts
        .enumerate()
        .map(|(i, start)| {
            let (min, max) = (min[i], max[i]);
            let count = u32::try_from(counts[i]).ok().filter(|c| *c > 0)?;
            Some(Bucket { start, min, max, mean: mean[i].max(min).min(max), count })
        })
        .collect()
}

// ------------------------------------------------------------------------------------------------------------ newest row

/// The values of [`PART`] series at one time: a bit for each that has one, then the values. Whole numbers are short, others eight bytes.
pub fn encode_row(values: &[Option<f64>]) -> Vec<u8> {
    let mut row = vec![0; PART / 8];
    for (i, value) in values.iter().take(PART).enumerate() {
        let Some(value) = value else { continue };
        row[i / 8] |= 1 << (i % 8);
        match whole(*value, 1.0) {
            Some(number) => {
                let mut rest = zigzag(number) << 1;
                while rest >= 0x80 {
                    row.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                row.push(rest as u8);
            }
            None => {
                row.push(1);
                row.extend(value.to_le_bytes());
            }
        }
    }
    row
}

/// Goes through a row; `each` is told the slot and its value, and whether to go on is what it says. `None` if the row is not one.
fn walk(row: &[u8], mut each: impl FnMut(usize, f64) -> bool) -> Option<()> {
    let (present, mut rest) = row.split_at_checked(PART / 8)?;
    for slot in (0..PART).filter(|i| present[i / 8] >> (i % 8) & 1 == 1) {
        let (first, tail) = rest.split_first()?;
        let value = if *first == 1 {
            let (bytes, tail) = tail.split_first_chunk::<8>()?;
            rest = tail;
            f64::from_le_bytes(*bytes)
        } else {
            let (mut number, mut shift, mut byte) = (0u64, 0, *first);
            rest = tail;
            number |= u64::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                shift += 7;
                if shift > 63 {
                    return None;
                }
                let (next, tail) = rest.split_first()?;
                (byte, rest) = (*next, tail);
                number |= u64::from(byte & 0x7f) << shift;
            }
            unzigzag(number >> 1) as f64
        };
        if !each(slot, value) {
            return Some(());
        }
    }
    Some(())
}

/// One value of a row.
pub fn row_value(row: &[u8], slot: usize) -> Option<f64> {
    let mut found = None;
    walk(row, |at, value| {
        if at == slot {
            found = Some(value);
        }
        at < slot
    })?;
    found
}

/// All values of a row, as `(slot, value)`; none if it is not a row.
pub fn row_values(row: &[u8]) -> Option<Vec<(usize, f64)>> {
    let mut found = Vec::with_capacity(PART);
    walk(row, |slot, value| {
        found.push((slot, value));
        true
    })?;
    Some(found)
}

#[cfg(test)]
mod tests;
