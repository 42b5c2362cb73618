// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures as shares have them: nights and weekends, people who come and go, bursts. Made up, but the same ones each time; it knows
//! nothing of how they are kept.

/// Metrics of a share that are measured here, by number.
pub const METRICS: [u16; 12] = [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13, 14];

/// Numbers that look random and are the same in each run (xorshift).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to below 1.
    pub fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.part() * n as f64) as u64
    }

    fn chance(&mut self, p: f64) -> bool {
        self.part() < p
    }
}

/// How much a share is used.
#[derive(Clone, Copy, PartialEq)]
pub enum Use {
    /// Nobody has it open.
    Idle,
    /// A few people, now and then, at working hours.
    Some,
    /// An office full of them.
    Office,
}

/// Of ten shares of an office, how much each is used.
pub const MIX: [Use; 10] =
    [Use::Office, Use::Some, Use::Idle, Use::Some, Use::Idle, Use::Office, Use::Idle, Use::Some, Use::Idle, Use::Idle];

/// One share.
pub struct Share {
    dice: Dice,
    how: Use,
    sessions: u64,
    files: u64,
    read: [u64; 2],
    written: [u64; 2],
    operations: u64,
    used: u64,
}

impl Share {
    pub fn new(seed: u64, how: Use) -> Self {
        let mut dice = Dice::new(seed + 1);
        let used = dice.below(1 << 29) * 4096;
        Self { dice, how, sessions: 0, files: 0, read: [0; 2], written: [0; 2], operations: 0, used }
    }

    /// The next scrape: a value for each of [`METRICS`], or none.
    pub fn next(&mut self, at: i64) -> [Option<f64>; 12] {
        let hour = at / 3_600_000 % 24;
        let weekday = (at / 86_400_000 + 3) % 7;
        let work = weekday < 5 && (7..18).contains(&hour);
        let most = match self.how {
            Use::Idle => 0,
            Use::Some => 3,
            Use::Office => 25,
        };
        let most = if work { most } else { most / 12 };
        if self.dice.chance(0.02) {
            self.sessions =
                if self.sessions < most && self.dice.chance(0.6) { self.sessions + 1 } else { self.sessions.saturating_sub(1) };
        }
        let d = &mut self.dice;
        // A client that is connected looks around; one in some of them works.
        let busy = (0..self.sessions).filter(|_| d.chance(if work { 0.15 } else { 0.02 })).count() as u64;
        self.operations += self.sessions * d.below(3);
        let mut latency = None;
        for _ in 0..busy {
            let reads = 1 + d.below(40);
            self.read[1] += reads;
            self.read[0] += if d.chance(0.5) { reads * 65_536 } else { d.below(reads * 65_536) };
            self.operations += reads + d.below(20);
            latency = Some((reads * 180 + d.below(reads * 400)) as f64 / reads as f64 / 1e6);
            if d.chance(0.3) {
                let writes = 1 + d.below(20);
                let bytes = d.below(writes * 65_536);
                self.written[1] += writes;
                self.written[0] += bytes;
                self.operations += writes;
                self.used += bytes.div_ceil(4096) * 4096;
            }
        }
        if at / 10_000 % 6 == 0 {
            self.files = if self.sessions == 0 { 0 } else { self.sessions * 4 + d.below(self.sessions * 3 + 1) };
        }
        [
            Some(self.sessions as f64),
            Some(self.sessions as f64),
            Some(self.sessions.div_ceil(2) as f64),
            Some(self.files as f64),
            Some(self.read[0] as f64),
            Some(self.written[0] as f64),
            Some(self.read[1] as f64),
            Some(self.written[1] as f64),
            Some(self.operations as f64),
            latency,
            Some(self.used as f64),
            Some(((1u64 << 42) - self.used) as f64),
        ]
    }
}
