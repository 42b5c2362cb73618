// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hot path: the numbers of a storage, asked by Proxmox every ten seconds for each storage.

use std::ffi::c_char;

use crate::boundary::{self, OutStruct, Text};
use crate::context::smbgw_context;
use crate::error::smbgw_error;

/// The size of a share and how fresh that knowledge is: of its file system, or its limit (`smbgw-quota`) where it has one. Set `size` to sizeof(smbgw_usage) before the call;
/// SMBGW_USAGE_INIT does it. Later versions add members at the end only.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct smbgw_usage {
    /// In: the size of this struct as the caller knows it.
    pub size: usize,
    /// Bytes in total.
    pub total: u64,
    /// Bytes a user may still write.
    pub avail: u64,
    /// Bytes used.
    pub used: u64,
    /// Age of these numbers in milliseconds; 0 when they were measured by this call, -1 when there are none.
    pub age_ms: i64,
    /// 1: the tree is reachable. 0: it is not, or nobody has looked for more than a minute.
    pub active: u32,
    /// 0.
    pub reserved: u32,
    /// The share's limit in bytes; 0: it has none. `total` is the same then.
    pub limit: u64,
    /// How much older than `age_ms` says the numbers may be, in milliseconds: btrfs, ZFS and CephFS count late. 0 without a limit.
    pub lag_ms: u64,
}

/// sizeof(smbgw_usage) in ABI 1; it stays when the struct grows.
const FIRST_SIZE: usize = 48;

const _: () = {
    assert!(std::mem::offset_of!(smbgw_usage, size) == 0);
    // its size now
    assert!(size_of::<usize>() != 8 || size_of::<smbgw_usage>() == 64);
};

/// Reads the numbers of the share `id`, without starting a process and without waiting for anything that may hang.
/// `*out` is the caller's: the library fills in what both sides know, sets the rest to 0, and keeps `size`. On failure
/// all members but `size` are 0. A share that nobody has looked at yet is no failure: it is not active, and `age_ms` is
/// -1. Errors: SMBGW_E_INVALID, SMBGW_E_IO, SMBGW_E_ARGUMENT (also for a wrong `size`, and then *out is left alone).
///
/// # Safety
/// `context` is NULL or a live context; `id` points to `id_len` bytes; `out` is NULL or points to a struct as large as
/// its `size` says; `err` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_usage_read(
    context: *const smbgw_context,
    id: *const c_char,
    id_len: usize,
    out: *mut smbgw_usage,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        let out = OutStruct::clear("out", out, FIRST_SIZE);
        boundary::call_on("smbgw_usage_read", context, err, |context| {
            let out = out.ready()?;
            let usage = context.gateway.usage(Text::new("id", id, id_len).name()?)?;
            out.put(&smbgw_usage {
                size: 0,
                total: usage.total,
                avail: usage.avail,
                used: usage.used,
                age_ms: usage.age_ms,
                active: u32::from(usage.active),
                reserved: 0,
                limit: usage.limit,
                lag_ms: usage.lag_ms,
            });
            Ok(())
        })
    }
}
