// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls that neither the standard library nor a safe wrapper offers: with [`quota`] the only `unsafe` of the core. It knows the
//! kernel's rules; it must not know which program, file or share it serves. Errors are plain `io::Error`s: the caller names
//! the object.
//!
//! Children are made by `fork` and `execve` by hand, because `std::process` cannot do what a library inside somebody else's
//! daemon needs: it unblocks signals before foreign handlers are gone, leaves ignored signals ignored, passes on descriptors
//! that lack close-on-exec, and panics when the program is missing while SIGCHLD is ignored.
#![allow(clippy::disallowed_methods)]

pub mod quota;

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::ptr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstatat};

/// Turns `-1` into the thread's `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Repeats a call while a signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- paths

/// Why a path could not be opened without following a symlink.
#[derive(Debug)]
pub enum OpenError {
    /// This component is a symlink (or, on a very odd race, was one a moment ago).
    Symlink(PathBuf),
    /// Anything else.
    Os(io::Error),
}

/// Opens an absolute path without following a symlink anywhere on the way (`openat2` with `RESOLVE_NO_SYMLINKS`; component
/// by component where a sandbox or an old kernel has no `openat2`).
pub fn open_no_symlinks(path: &Path, flags: OFlag) -> Result<OwnedFd, OpenError> {
    let flags = flags | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match retry(|| openat2(AT_FDCWD, path, how)) {
        Ok(fd) => Ok(fd),
        Err(Errno::ELOOP) => match walk_no_symlinks(path, flags) {
            // The walk found none: it was swapped in between, and is reported as what the kernel saw.
            Ok(_) => Err(OpenError::Symlink(path.to_owned())),
            Err(e) => Err(e),
        },
        Err(Errno::ENOSYS) => walk_no_symlinks(path, flags),
        Err(e) => Err(OpenError::Os(e.into())),
    }
}

/// The same, one component at a time, so that the symlink can be named.
pub(super) fn walk_no_symlinks(path: &Path, flags: OFlag) -> Result<OwnedFd, OpenError> {
    let os = |e: Errno| OpenError::Os(e.into());
    let step = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut seen = PathBuf::from("/");
    let mut here = retry(|| openat(AT_FDCWD, "/", step, Mode::empty())).map_err(os)?;
    let names: Vec<_> = path
        .components()
        .filter_map(|c| match c {
            Component::Normal(n) => Some(Ok(n)),
            Component::ParentDir => Some(Err(OpenError::Os(io::Error::from_raw_os_error(libc::EINVAL)))),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect::<Result<_, _>>()?;
    let Some((last, parents)) = names.split_last() else {
        return retry(|| openat(&here, ".", flags, Mode::empty())).map_err(os);
    };
    for (name, last) in parents.iter().map(|n| (n, false)).chain([(last, true)]) {
        seen.push(name);
        let st = retry(|| fstatat(&here, *name, AtFlags::AT_SYMLINK_NOFOLLOW)).map_err(os)?;
        if SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFLNK {
            return Err(OpenError::Symlink(seen));
        }
        let how = if last { flags | OFlag::O_NOFOLLOW } else { step };
        here = match retry(|| openat(&here, *name, how, Mode::empty())) {
            Ok(fd) => fd,
            Err(Errno::ELOOP) => return Err(OpenError::Symlink(seen)),
            Err(e) => return Err(os(e)),
        };
    }
    Ok(here)
}

/// The mount a descriptor lies on, as numbered in `/proc/self/mountinfo`.
pub fn mount_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: all of it is plain data, for which zeros are a value.
    let mut seen: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the descriptor is open, the path is a C string, and `seen` outlives the call.
    let result = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_MNT_ID, &raw mut seen) };
    if result == 0 && seen.stx_mask & libc::STATX_MNT_ID != 0 {
        return Ok(seen.stx_mnt_id);
    }
    // Before Linux 5.8.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    info.lines()
        .find_map(|l| l.strip_prefix("mnt_id:"))
        .and_then(|v| v.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no mnt_id in fdinfo"))
}

/// Whether a descriptor is on a FUSE file system; Proxmox's `/etc/pve` is one, and gives every file a fixed owner and mode.
pub fn is_fuse(fd: BorrowedFd<'_>) -> bool {
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    // The width and sign of f_type differ between architectures; the magic fits all of them.
    #[allow(clippy::unnecessary_cast)]
    nix::sys::statfs::fstatfs(fd).is_ok_and(|s| s.filesystem_type().0 as i64 == FUSE_SUPER_MAGIC)
}

// ---------------------------------------------------------------------------------------------------------------- small

/// What `statfs(2)` tells, in bytes. Both of its callers in the C library would need two calls for it.
#[derive(Debug, Clone, Copy)]
pub struct Statfs {
    /// Magic number (linux/magic.h).
    pub magic: i64,
    /// `f_fsid`, as `statvfs(3)` puts it together.
    pub fsid: u64,
    /// Size.
    pub total: u64,
    /// Free.
    pub free: u64,
    /// Free for who is not root.
    pub avail: u64,
    /// Mounted read-only.
    pub read_only: bool,
}

fn told(s: &libc::statfs64) -> Statfs {
    // SAFETY: fsid_t is two 32-bit numbers, whatever their names are.
    let [low, high]: [u32; 2] = unsafe { std::mem::transmute(s.f_fsid) };
    // Widths and signs differ between architectures. Old kernels leave the fragment size 0.
    #[allow(clippy::unnecessary_cast)]
    let (unit, magic) = (if s.f_frsize > 0 { s.f_frsize as u64 } else { s.f_bsize as u64 }, s.f_type as i64 & 0xFFFF_FFFF);
    let bytes = |blocks: u64| blocks.saturating_mul(unit);
    #[allow(clippy::unnecessary_cast)]
    let read_only = s.f_flags as u64 & libc::ST_RDONLY as u64 != 0;
    Statfs {
        magic,
        fsid: u64::from(low) | u64::from(high) << 32,
        total: bytes(s.f_blocks),
        free: bytes(s.f_bfree),
        avail: bytes(s.f_bavail),
        read_only,
    }
}

/// The file system at a path.
pub fn statfs(path: &Path) -> io::Result<Statfs> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut s = MaybeUninit::<libc::statfs64>::zeroed();
    // SAFETY: path and struct are live; zeroed bytes are a valid struct.
    unsafe {
        while let Err(e) = check(libc::statfs64(path.as_ptr(), s.as_mut_ptr())) {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        Ok(told(s.assume_init_ref()))
    }
}

/// The file system of a descriptor.
pub fn fstatfs(fd: BorrowedFd<'_>) -> io::Result<Statfs> {
    let mut s = MaybeUninit::<libc::statfs64>::zeroed();
    // SAFETY: as above; the descriptor is borrowed and so open.
    unsafe {
        while let Err(e) = check(libc::fstatfs64(fd.as_raw_fd(), s.as_mut_ptr())) {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        Ok(told(s.assume_init_ref()))
    }
}

/// Fills `bytes` from the kernel's generator.
pub fn getrandom(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are those of a live, writable slice.
        let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => bytes = &mut bytes[n..],
            Err(_) => {
                let e = io::Error::last_os_error();
                if e.kind() != io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
        }
    }
    Ok(())
}

/// Milliseconds of `CLOCK_MONOTONIC`.
pub fn monotonic_ms() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a live timespec; the call writes nothing else. CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    u64::try_from(t.tv_sec).unwrap_or(0) * 1000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Processor time of this process, in microseconds.
pub fn own_cpu_us() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above; CLOCK_PROCESS_CPUTIME_ID exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1000
}

/// `flock` without waiting; `false` if somebody else holds it.
pub fn try_lock(fd: BorrowedFd<'_>) -> io::Result<bool> {
    loop {
        // SAFETY: `flock` only needs a descriptor, which is borrowed and so open.
        match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Gives an `flock` back, also if a forked copy of this descriptor lives on somewhere.
pub fn unlock(fd: BorrowedFd<'_>) {
    // SAFETY: as above; the result does not matter, closing the descriptor follows.
    unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) };
}

// ------------------------------------------------------------------------------------------------------------ processes

/// State letter, name and start time out of `/proc/PID/stat`; `None` if there is no such process.
pub fn proc_stat(pid: i32) -> Option<ProcStat> {
    if pid <= 0 {
        return None;
    }
    ProcStat::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// What we want of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcStat {
    /// `comm`: at most 15 bytes, set by the process as it likes.
    pub comm: String,
    /// `R`, `S`, `D`, `Z` …
    pub state: char,
    /// Field 22, clock ticks since boot.
    pub start: u64,
}

impl ProcStat {
    /// Parses one line. `comm` may hold blanks and parentheses, so the fields are counted from the last `)`.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(line);
        let (open, close) = (text.find('(')?, text.rfind(')')?);
        let comm = text.get(open + 1..close)?.to_owned();
        // Fields 3 (state) onwards; field 22 is the 20th of these.
        let mut fields = text[close + 1..].split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let start = fields.nth(18)?.parse().ok()?;
        Some(Self { comm, state, start })
    }

    /// Ended, only not reaped.
    pub fn dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A descriptor for a process: readable when it has ended. `ENOSYS` under some sandboxes and debuggers.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a result that is not -1 is a new descriptor (close-on-exec by definition) that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd == -1 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as RawFd)) }
    }
}

/// SIGKILL to exactly that process. `Ok` also if it has ended already.
pub fn pidfd_kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a null siginfo is documented as "like kill(2)"; the descriptor is borrowed and so open.
    let r = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, ptr::null::<libc::siginfo_t>(), 0)
    };
    if r == -1 {
        let e = io::Error::last_os_error();
        return if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(e) };
    }
    Ok(())
}

/// SIGKILL by number: a process (`pid > 0`) of which the caller knows that the number is not reused, or its group (`-pid`).
pub fn kill_number(pid: i32) {
    // 1 is init, 0 our own group, -1 everybody.
    if !(-1..=1).contains(&pid) {
        // SAFETY: no pointers.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Waits until `pidfd` says that its process has ended; `false` when the time was up first.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
        match poll(&mut fds, poll_timeout(left)) {
            Ok(n) if n > 0 => return true,
            Ok(_) | Err(Errno::EINTR) if Instant::now() < until => {}
            _ => return false,
        }
    }
}

/// A duration for `poll`, rounded up so that a wait of less than a millisecond does not spin.
pub fn poll_timeout(wait: Duration) -> PollTimeout {
    let ms = wait.as_micros().div_ceil(1000).min(60_000);
    PollTimeout::try_from(ms as i32).unwrap_or(PollTimeout::MAX)
}

/// What is known about the end of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Not yet.
    Running,
    /// Exit status, or the signal as a negative number.
    Status(i32),
    /// Ended, but the status went elsewhere: SIGCHLD is ignored in this process, or somebody waited for our child.
    Lost,
}

/// Reaps our own child if it has ended; never anybody else's.
pub fn reap(pid: i32, pidfd: Option<BorrowedFd<'_>>) -> io::Result<Ended> {
    let Some(pidfd) = pidfd else { return reap_by_number(pid) };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: `info` is writable and of the right type. Zeroed bytes are a valid siginfo_t, so reading it afterwards is
        // fine even if the kernel left it alone (WNOHANG and nothing to tell: si_pid stays 0).
        let (r, info) = unsafe {
            let r =
                libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG);
            (r, info.assume_init_ref())
        };
        if r == 0 {
            // SAFETY: for WEXITED results the kernel fills the SIGCHLD part of the union; before that it is zero.
            let (child, status) = unsafe { (info.si_pid(), info.si_status()) };
            return Ok(match child {
                0 => Ended::Running,
                _ if info.si_code == libc::CLD_EXITED => Ended::Status(status),
                _ => Ended::Status(-status),
            });
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EINTR) => {}
            // Not our child any more. It may still run if it is not ended yet and we are a forked copy; the pidfd knows.
            Some(libc::ECHILD) if !wait_pidfd(pidfd, Duration::ZERO) => return Ok(Ended::Running),
            Some(libc::ECHILD) => return Ok(exit_info(pidfd).map_or(Ended::Lost, Ended::Status)),
            // waitid by pidfd came with Linux 5.4.
            Some(libc::EINVAL) => return reap_by_number(pid),
            _ => return Err(e),
        }
    }
}

fn reap_by_number(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live int; the pid is that of one child of ours, never -1.
        match check(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) }) {
            Ok(0) => return Ok(Ended::Running),
            Ok(_) => return Ok(Ended::Status(decode(status))),
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(Ended::Lost),
            Err(e) => return Err(e),
        }
    }
}

fn decode(status: libc::c_int) -> i32 {
    if libc::WIFSIGNALED(status) { -libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// The exit status of a process that somebody else reaped (`PIDFD_GET_INFO`, Linux 6.15): what is left when the embedding
/// process ignores SIGCHLD. `None` on older kernels.
fn exit_info(pidfd: BorrowedFd<'_>) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `struct pidfd_info` of its first version, 64 bytes (`include/uapi/linux/pidfd.h`).
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroupid: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    let mut info = PidfdInfo::default();
    // _IOWR(0xFF, 11, struct pidfd_info)
    let request = (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xff << 8) | 11;
    // The pidfd says "ended" a moment before the kernel has put the status down.
    for _ in 0..50 {
        info.mask = PIDFD_INFO_EXIT;
        // SAFETY: the request number carries the size of the struct that the pointer leads to; the kernel writes no more.
        if unsafe { libc::ioctl(pidfd.as_raw_fd(), request, &mut info) } != 0 {
            return None;
        }
        if info.mask & PIDFD_INFO_EXIT != 0 {
            return Some(decode(info.exit_code));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// A child to be: everything allocated before the fork.
pub struct Spawn<'a> {
    /// Absolute path of the program.
    pub program: &'a Path,
    /// Arguments after the program's own name.
    pub args: &'a [String],
    /// `NAME=value`, all of it.
    pub env: &'a [&'a CStr],
    /// Descriptors 0, 1 and 2 of the child.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Own session and no parent-death signal, instead of our process group and SIGKILL when we die.
    pub daemon: bool,
    /// When to give up if `execve` hangs (a program on a dead mount).
    pub deadline: Instant,
}

/// A child that runs its program.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub pid: i32,
    /// Its start time.
    pub start: u64,
    /// Its descriptor, where the kernel gives one.
    pub pidfd: Option<OwnedFd>,
}

/// Starts a child. It gets the three descriptors and nothing else, an empty signal mask, default dispositions, umask 022,
/// `/` as its directory, and only then runs the program.
///
/// `PR_SET_PDEATHSIG` goes by the *thread* that forked: if an embedder calls from a thread that ends, the child is killed then.
pub fn spawn(s: &Spawn<'_>) -> io::Result<Spawned> {
    let nul = |_| io::Error::new(io::ErrorKind::InvalidInput, "an argument contains a NUL byte");
    let program = CString::new(s.program.as_os_str().as_bytes()).map_err(nul)?;
    let args: Vec<CString> = s.args.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<_, _>>().map_err(nul)?;
    let mut argv: Vec<*const libc::c_char> = vec![program.as_ptr()];
    argv.extend(args.iter().map(|a| a.as_ptr()));
    argv.push(ptr::null());
    let mut envp: Vec<*const libc::c_char> = s.env.iter().map(|e| e.as_ptr()).collect();
    envp.push(ptr::null());
    // The embedding daemon may have closed its own 0, 1 and 2, so that ours got these numbers: move them out of the way.
    let stdio = [above_stdio(s.stdio[0])?, above_stdio(s.stdio[1])?, above_stdio(s.stdio[2])?];
    let (ours, theirs) = socket_pair()?;
    // No second copy of the child's end may stay here: its closing is how we learn of the execve.
    let theirs = {
        let low = theirs;
        above_stdio(low.as_fd())?
    };
    let child = ChildSide {
        program: &program,
        argv: &argv,
        envp: &envp,
        stdio: [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()],
        control: theirs.as_raw_fd(),
        others_end: ours.as_raw_fd(),
        daemon: s.daemon,
        // SAFETY: no arguments, cannot fail.
        parent: unsafe { libc::getpid() },
    };

    // All signals are blocked around the fork: a handler of the embedding process must not run in the child.
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are live and are initialised by the calls before they are read. The child branch calls only
    // async-signal-safe functions on memory that was made before the fork, and never returns.
    let pid = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let pid = libc::fork();
        if pid == 0 {
            child.run();
        }
        let result = check(pid);
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        result?
    };
    drop(theirs);

    // The child waits for our word, so that it cannot have ended (and its number been reused) when we look at it.
    let pidfd = pidfd_open(pid).ok();
    let start = proc_stat(pid).map_or(0, |p| p.start);
    let spawned = Spawned { pid, start, pidfd };
    let failed = release(ours.as_fd(), s.deadline).err();
    let Some(e) = failed else { return Ok(spawned) };
    spawned.kill();
    spawned.reap_within(Duration::from_secs(1));
    Err(e)
}

impl Spawned {
    /// SIGKILL to the child, if it has not been reaped.
    pub fn kill(&self) {
        match &self.pidfd {
            Some(fd) => drop(pidfd_kill(fd.as_fd())),
            // Not reaped by us, so the number is still the child's unless SIGCHLD is ignored; the start time decides.
            None if proc_stat(self.pid).is_some_and(|p| p.start == self.start && !p.dead()) => kill_number(self.pid),
            None => {}
        }
    }

    /// Whether and how it ended.
    pub fn reap(&self) -> io::Result<Ended> {
        reap(self.pid, self.pidfd.as_ref().map(AsFd::as_fd))
    }

    /// Waits a little for a child that was killed; gives up on one that is stuck in the kernel.
    pub fn reap_within(&self, wait: Duration) -> Ended {
        let until = Instant::now() + wait;
        loop {
            match self.reap() {
                Ok(Ended::Running) if Instant::now() < until => self.nap(until.saturating_duration_since(Instant::now())),
                Ok(ended) => return ended,
                Err(_) => return Ended::Lost,
            }
        }
    }

    fn nap(&self, at_most: Duration) {
        match &self.pidfd {
            Some(fd) => drop(wait_pidfd(fd.as_fd(), at_most)),
            None => std::thread::sleep(at_most.min(Duration::from_millis(5))),
        }
    }
}

/// Lets the child go on, and waits until it has become its program (the socket closes) or says why not.
fn release(control: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    let fd = control.as_raw_fd();
    // SAFETY: one byte out of a live array; MSG_NOSIGNAL, so that a child that is gone costs us EPIPE and no SIGPIPE.
    unsafe { libc::send(fd, [1u8].as_ptr().cast(), 1, libc::MSG_NOSIGNAL) };
    let mut word = [0u8; 4];
    let mut have = 0;
    while have < word.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(control, PollFlags::POLLIN)];
        match poll(&mut fds, poll_timeout(left)) {
            Ok(0) if Instant::now() >= deadline => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the program could not be loaded in time"));
            }
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        // SAFETY: the destination is the rest of a live array.
        let n = unsafe { libc::recv(fd, word[have..].as_mut_ptr().cast(), word.len() - have, libc::MSG_DONTWAIT) };
        match usize::try_from(n) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(_) => match io::Error::last_os_error() {
                e if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                // The child died with our byte unread; what it died of, its status tells.
                e if e.kind() == io::ErrorKind::ConnectionReset => break,
                e => return Err(e),
            },
        }
    }
    if have == word.len() { Err(io::Error::from_raw_os_error(i32::from_ne_bytes(word))) } else { Ok(()) }
}

/// What the child needs between `fork` and `execve`; all of it plain numbers and pointers to memory of before the fork.
struct ChildSide<'a> {
    program: &'a CStr,
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    stdio: [RawFd; 3],
    control: RawFd,
    others_end: RawFd,
    daemon: bool,
    parent: i32,
}

impl ChildSide<'_> {
    /// Becomes the program, or tells the parent why not and ends.
    ///
    /// # Safety
    /// Only in a child right after `fork`, with all signals blocked.
    unsafe fn run(&self) -> ! {
        // SAFETY: system calls on live memory only; no allocation, no lock, no destructor. See the caller for the rest.
        unsafe {
            let errno = self.become_program();
            let word = errno.to_ne_bytes();
            libc::send(self.control, word.as_ptr().cast(), word.len(), libc::MSG_NOSIGNAL);
            libc::_exit(127)
        }
    }

    /// # Safety
    /// As [`ChildSide::run`].
    unsafe fn become_program(&self) -> i32 {
        // SAFETY: as for `run`. The structs passed are zeroed or initialised by the call before.
        unsafe {
            // First the dispositions, then (below) the mask: no foreign handler ever runs here. Signals that cannot be
            // changed (KILL, STOP, the two of glibc) answer EINVAL, which is fine.
            let mut default: libc::sigaction = MaybeUninit::zeroed().assume_init();
            default.sa_sigaction = libc::SIG_DFL;
            for signal in 1..=64 {
                libc::sigaction(signal, &default, ptr::null_mut());
            }
            if self.daemon {
                libc::setsid();
            } else {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
                // The parent may have died before that line. 0 is a parent outside of our PID namespace.
                let parent = libc::getppid();
                if parent != self.parent && parent != 0 {
                    libc::_exit(127);
                }
            }
            libc::umask(0o022);
            if libc::chdir(c"/".as_ptr()) == -1 {
                return *libc::__errno_location();
            }
            for (to, from) in self.stdio.iter().enumerate() {
                // All of `stdio` are above 2, so nothing is overwritten before it is used; the copies survive execve.
                if libc::dup2(*from, to as RawFd) == -1 {
                    return *libc::__errno_location();
                }
            }
            if libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == -1 {
                mark_all_cloexec();
            }
            // The parent's word. End of file: the parent is gone (which we see only without a copy of its end).
            libc::close(self.others_end);
            let mut word = 0u8;
            loop {
                let n = libc::recv(self.control, (&raw mut word).cast(), 1, 0);
                if n == 1 {
                    break;
                }
                if n == 0 || *libc::__errno_location() != libc::EINTR {
                    libc::_exit(127);
                }
            }
            let mut none: libc::sigset_t = MaybeUninit::zeroed().assume_init();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            *libc::__errno_location()
        }
    }
}

/// Where `close_range` is missing (kernels before 5.11, some sandboxes): one by one.
///
/// # Safety
/// Async-signal-safe: may run between `fork` and `execve`.
unsafe fn mark_all_cloexec() {
    // SAFETY: `limit` is live; setting a flag on a number that is not open answers EBADF and does nothing.
    unsafe {
        let mut limit: libc::rlimit = MaybeUninit::zeroed().assume_init();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        let last = limit.rlim_cur.clamp(1024, 1 << 20) as RawFd;
        for fd in 3..last {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// A copy of a descriptor with a number above 2.
fn above_stdio(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number and gives a new descriptor that nobody else owns.
    unsafe { check(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3)).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel writes two descriptors into the array, which nobody else owns.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_sees_what_openat2_sees() {
        let dir = tempfile::tempdir().expect("temp dir");
        let base = dir.path().canonicalize().expect("canonical");
        std::fs::create_dir_all(base.join("a/b/c")).expect("dirs");
        std::fs::write(base.join("a/file"), "").expect("file");
        std::os::unix::fs::symlink(base.join("a"), base.join("link")).expect("link");
        std::os::unix::fs::symlink("b", base.join("a/inner")).expect("link");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let tell = |r: Result<OwnedFd, OpenError>| match r {
            Ok(fd) => format!("{:?}", nix::sys::stat::fstat(&fd).map(|s| s.st_ino)),
            Err(OpenError::Symlink(p)) => format!("symlink {}", p.display()),
            Err(OpenError::Os(e)) => format!("{:?}", e.raw_os_error()),
        };
        for p in
            ["", "a", "a/b/c", "a/./b//c/", "link", "link/b", "a/inner", "a/inner/c", "nope", "a/nope/x", "a/file", "a/file/x"]
        {
            let p = base.join(p);
            assert_eq!(tell(walk_no_symlinks(&p, flags)), tell(open_no_symlinks(&p, flags)), "{p:?}");
        }
        assert_eq!(tell(open_no_symlinks(&base.join("a/inner/c"), flags)), format!("symlink {}/a/inner", base.display()));
        assert_eq!(tell(walk_no_symlinks(Path::new("/"), flags)), tell(open_no_symlinks(Path::new("/"), flags)));
    }

    #[test]
    fn a_process_name_cannot_forge_its_fields() {
        let stat = |comm: &str| {
            let line = format!("7 ({comm}) S 1 7 7 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 424242 1000 2 rest");
            ProcStat::parse(line.as_bytes())
        };
        for comm in ["smbd", "a b", "x) Z 1 1 1 1 (", ")", "((", "tmux: server"] {
            let p = stat(comm).expect("parses");
            assert_eq!((p.comm.as_str(), p.state, p.start), (comm, 'S', 424_242));
        }
        assert_eq!(ProcStat::parse(b"7 (x) S 1 2"), None);
        assert_eq!(ProcStat::parse(b""), None);
    }

    #[test]
    fn waits_are_rounded_up_and_bounded() {
        assert_eq!(poll_timeout(Duration::ZERO), PollTimeout::ZERO);
        assert_eq!(poll_timeout(Duration::from_micros(1)), PollTimeout::from(1u8));
        assert_eq!(poll_timeout(Duration::from_secs(86_400)).as_millis(), Some(60_000));
    }
}
