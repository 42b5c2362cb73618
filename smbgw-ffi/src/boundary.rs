// SPDX-License-Identifier: MIT OR Apache-2.0
//! The border between C and Rust, and the only way to write an exported function: every export is one call of [`call`],
//! [`call_on`], [`call_on_mut`], [`read`] or [`free`]. It knows pointers, handles, panics and pids; it must not know
//! what the functions do.
//!
//! What it guarantees, in this order: outputs are NULL or 0 first; NULL and foreign handles are refused; a handle of another
//! process is refused; text is UTF-8; the call runs under the log of its handle; a panic becomes an error object; an error that
//! cannot be built becomes one that needs no memory.

use std::any::Any;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use smbgw_core::error::{Error, Kind, Result};
use tracing::Dispatch;

use crate::error::{SMBGW_E_INTERNAL, SMBGW_OK, last_resort, smbgw_error};

/// An opaque C type and what is behind it.
pub(crate) trait Noun {
    /// What the handle owns.
    type Body;
    /// The C name, for messages.
    const NAME: &'static str;
    /// Written into each live handle of this type, and checked at each entry.
    const TAG: u64;
    /// Whether a child process may not use it.
    const BOUND_TO_PROCESS: bool;

    /// The log under which calls on this handle run.
    fn dispatch(body: &Self::Body) -> Option<&Dispatch>;
}

/// What a handle points to. The tag does not come first: allocators write their own notes over the first words of freed
/// memory, and a cleared tag that survives there is what makes most double frees harmless.
#[repr(C)]
pub(crate) struct Slot<B> {
    reserved: [usize; 2],
    tag: u64,
    pid: u32,
    broken: bool,
    body: B,
}

impl<B> Slot<B> {
    /// A slot that lives in static memory; [`free`] leaves it alone because its tag is nobody's.
    pub(crate) const fn fixed(tag: u64, body: B) -> Self {
        Self { reserved: [0; 2], tag, pid: 0, broken: false, body }
    }
}

/// The tag of handles in static memory that are never freed.
const FIXED: u64 = 1 << 63;

/// The tag a noun's static handles carry.
pub(crate) const fn fixed_tag(tag: u64) -> u64 {
    tag | FIXED
}

/// Makes a handle; the caller owns it and gives it back with [`free`].
pub(crate) fn handle<N: Noun>(body: N::Body) -> *mut N {
    let pid = if N::BOUND_TO_PROCESS { std::process::id() } else { 0 };
    Box::into_raw(Box::new(Slot { reserved: [0; 2], tag: N::TAG, pid, broken: false, body })).cast()
}

/// A wrong argument: the caller broke the C contract.
pub(crate) fn argument(message: impl Into<String>) -> Error {
    Error::new(Kind::Argument, message)
}

fn misaligned<T>(p: *const T) -> bool {
    p.addr() % align_of::<T>() != 0
}

/// Checks pointer, tag and process of a handle.
///
/// # Safety
/// `p` is NULL or points to readable memory of at least a slot's head.
unsafe fn look<N: Noun>(p: *const N) -> Result<*mut Slot<N::Body>> {
    let slot = p.cast::<Slot<N::Body>>().cast_mut();
    if slot.is_null() {
        return Err(argument(format!("the {} is NULL", N::NAME)));
    }
    if misaligned(slot) {
        return Err(argument(format!("the pointer given as {} is not one: it is not aligned", N::NAME)));
    }
    // SAFETY: readable as the caller promises; the tag is at the same place in the slots of all nouns.
    let tag = unsafe { ptr::read_volatile(&raw const (*slot).tag) };
    if tag != N::TAG && tag != fixed_tag(N::TAG) {
        return Err(argument(format!("the pointer given as {} is another object, or was freed", N::NAME)));
    }
    Ok(slot)
}

/// As [`look`], and refuses what belongs to another process or was broken by a panic.
///
/// # Safety
/// As [`look`].
unsafe fn look_usable<N: Noun>(p: *const N) -> Result<*mut Slot<N::Body>> {
    // SAFETY: as promised by the caller.
    let slot = unsafe { look(p)? };
    // SAFETY: the tag says that this is a live slot of this noun.
    let (pid, broken) = unsafe { ((*slot).pid, (*slot).broken) };
    if N::BOUND_TO_PROCESS && pid != std::process::id() {
        return Err(Error::new(
            Kind::Forked,
            format!("the {} belongs to process {pid}, this is process {}", N::NAME, std::process::id()),
        )
        .remedy("make a new context after fork"));
    }
    if broken {
        return Err(Error::new(Kind::Internal, format!("the {} was left unfinished by an internal error", N::NAME))
            .remedy("free it; what it was doing is in the journal and can be resumed"));
    }
    Ok(slot)
}

/// Text given as pointer and length, not yet checked.
pub(crate) struct Text<'a> {
    name: &'static str,
    bytes: Option<&'a [u8]>,
    len: usize,
}

impl<'a> Text<'a> {
    /// # Safety
    /// `p` is NULL or points to `len` bytes that stay as they are for `'a`.
    pub(crate) unsafe fn new(name: &'static str, p: *const c_char, len: usize) -> Self {
        let bytes = if p.is_null() || isize::try_from(len).is_err() {
            None
        } else {
            // SAFETY: not NULL, not too long, readable as the caller promises.
            Some(unsafe { std::slice::from_raw_parts(p.cast::<u8>(), len) })
        };
        Self { name, bytes, len }
    }

    /// Text of our own.
    pub(crate) fn fixed(name: &'static str, text: &'static str) -> Self {
        Self { name, bytes: Some(text.as_bytes()), len: text.len() }
    }

    /// The bytes; NULL is refused.
    pub(crate) fn bytes(&self) -> Result<&'a [u8]> {
        if isize::try_from(self.len).is_err() {
            return Err(argument(format!("{}: the length is larger than any object can be", self.name)));
        }
        self.bytes.ok_or_else(|| argument(format!("{} is NULL", self.name)))
    }

    /// The text; NULL and bad UTF-8 are refused.
    pub(crate) fn required(&self) -> Result<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes)
            .map_err(|e| argument(format!("{} is not UTF-8: byte {} does not belong there", self.name, e.valid_up_to())))
    }

    /// A name: text without NUL, not empty.
    pub(crate) fn name(&self) -> Result<&'a str> {
        let text = self.required()?;
        if text.is_empty() {
            return Err(argument(format!("{} is empty", self.name)));
        }
        match text.bytes().position(|b| b == 0) {
            Some(at) => Err(argument(format!("{} has a NUL inside, at byte {at}", self.name))),
            None => Ok(text),
        }
    }

    /// A JSON object; NULL with length 0, or no text at all, is the empty object.
    pub(crate) fn object(&self) -> Result<serde_json::Map<String, serde_json::Value>> {
        if self.len == 0 {
            return Ok(serde_json::Map::new());
        }
        let text = self.required()?;
        match serde_json::from_str(text) {
            Ok(serde_json::Value::Object(map)) => Ok(map),
            Ok(_) => Err(argument(format!("{} is JSON, but not an object", self.name))),
            // Only the place is told: the text of a request may contain what must not be in a log.
            Err(e) => Err(argument(format!("{} is not JSON: line {}, column {}", self.name, e.line(), e.column()))),
        }
    }
}

/// A pointer output. Making one sets it to NULL or 0; only [`Out::ready`] lets a function write to it.
pub(crate) struct Out<T> {
    name: &'static str,
    place: *mut T,
}

/// An output that was found to be usable.
pub(crate) struct Ready<T>(*mut T);

impl<T> Out<*mut T> {
    /// # Safety
    /// `place` is NULL or may be written to until the call ends.
    pub(crate) unsafe fn handle(name: &'static str, place: *mut *mut T) -> Self {
        // SAFETY: as promised.
        unsafe { Self::starting(name, place, ptr::null_mut()) }
    }
}

impl Out<u32> {
    /// # Safety
    /// `place` is NULL or may be written to until the call ends.
    pub(crate) unsafe fn number(name: &'static str, place: *mut u32) -> Self {
        // SAFETY: as promised.
        unsafe { Self::starting(name, place, 0) }
    }
}

impl<T> Out<T> {
    unsafe fn starting(name: &'static str, place: *mut T, first: T) -> Self {
        if !place.is_null() && !misaligned(place) {
            // SAFETY: not NULL, aligned, writable as promised by the caller.
            unsafe { place.write(first) };
        }
        Self { name, place }
    }

    /// The output, if there is a place for it.
    pub(crate) fn ready(&self) -> Result<Ready<T>> {
        if self.place.is_null() {
            return Err(argument(format!("the output {} is NULL", self.name)));
        }
        if misaligned(self.place) {
            return Err(argument(format!("the output {} is not aligned", self.name)));
        }
        Ok(Ready(self.place))
    }
}

impl<T> Ready<T> {
    /// Hands the value over.
    pub(crate) fn put(&self, value: T) {
        // SAFETY: `Out::handle` and `Out::number` were promised a writable place; it is neither NULL nor misaligned.
        unsafe { self.0.write(value) };
    }
}

/// A struct output that starts with its `size`, as the caller knows it. Making one sets all behind `size` to 0.
pub(crate) struct OutStruct<T> {
    place: *mut T,
    size: Result<usize, String>,
}

/// More than any version of any struct here; a larger `size` was never set.
const LARGEST: usize = 4096;

impl<T: Copy> OutStruct<T> {
    /// `smallest` is the size of the struct in the first version that had it.
    ///
    /// # Safety
    /// `T` is `repr(C)` and starts with a `usize`, its size. `place` is NULL or points to a struct as large as its size says.
    pub(crate) unsafe fn clear(name: &'static str, place: *mut T, smallest: usize) -> Self {
        let refuse = |why: String| Self { place, size: Err(why) };
        if place.is_null() {
            return refuse(format!("the output {name} is NULL"));
        }
        if misaligned(place) {
            return refuse(format!("the output {name} is not aligned"));
        }
        // SAFETY: not NULL, aligned, and it starts with a usize.
        let size = unsafe { place.cast::<usize>().read() };
        if !(smallest..=LARGEST).contains(&size) {
            return refuse(format!("the size in {name} is {size}, it has to be at least {smallest} (use the _INIT macro)"));
        }
        let head = size_of::<usize>();
        // SAFETY: the struct has `size` bytes as the caller says, and `size` is more than its first member.
        unsafe { place.cast::<u8>().add(head).write_bytes(0, size - head) };
        Self { place, size: Ok(size) }
    }

    /// The output, if there is a usable place for it.
    pub(crate) fn ready(self) -> Result<ReadyStruct<T>> {
        let place = self.place;
        self.size.map(|size| ReadyStruct { place, size }).map_err(argument)
    }
}

/// A struct output that was found to be usable.
pub(crate) struct ReadyStruct<T> {
    place: *mut T,
    size: usize,
}

impl<T: Copy> ReadyStruct<T> {
    /// Hands over the members that both sides know; the caller's `size` stays.
    pub(crate) fn put(&self, value: &T) {
        let head = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        // SAFETY: both have at least `known` bytes, and `known` is at least the smallest size, which is more than the head.
        unsafe {
            let from = ptr::from_ref(value).cast::<u8>().add(head);
            ptr::copy_nonoverlapping(from, self.place.cast::<u8>().add(head), known.saturating_sub(head));
        }
    }
}

/// Runs an exported function: its errors and panics go to `err`, the code is returned.
///
/// # Safety
/// `err` is NULL or may be written to.
pub(crate) unsafe fn call(function: &'static str, err: *mut *mut smbgw_error, body: impl FnOnce() -> Result<()>) -> i32 {
    // SAFETY: as promised by the caller.
    let err = unsafe { Out::handle("err", err) };
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return SMBGW_OK,
        Ok(Err(e)) => e,
        Err(payload) => match catch_unwind(AssertUnwindSafe(|| of_panic(function, &*payload))) {
            Ok(e) => {
                discard(payload);
                e
            }
            Err(second) => {
                discard(payload);
                discard(second);
                if let Ok(place) = err.ready() {
                    place.put(last_resort());
                }
                return SMBGW_E_INTERNAL;
            }
        },
    };
    hand_over(&err, error)
}

/// Turns an error into the caller's error object, or into the one that needs no memory.
fn hand_over(err: &Out<*mut smbgw_error>, error: Error) -> i32 {
    let code = error.kind() as i32;
    let Ok(place) = err.ready() else {
        discard(Box::new(error));
        return code;
    };
    match catch_unwind(AssertUnwindSafe(|| crate::error::new(error))) {
        Ok(object) => {
            place.put(object);
            code
        }
        Err(payload) => {
            discard(payload);
            place.put(last_resort());
            SMBGW_E_INTERNAL
        }
    }
}

/// The error that a panic becomes, with the panic's own text.
fn of_panic(function: &'static str, payload: &(dyn Any + Send)) -> Error {
    let text = if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without text".to_owned()
    };
    tracing::error!(function, panic = text.as_str(), "internal error");
    Error::new(Kind::Internal, format!("internal error in {function}: {text}"))
        .remedy("this is a bug of smbgw: please report it with this message; operations that were under way can be resumed")
}

/// Drops something whose drop may panic, and lets nothing out. What panics twice is leaked.
fn discard<T>(thing: T) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(thing))) {
        std::mem::forget(second);
    }
}

fn under<T>(dispatch: Option<&Dispatch>, body: impl FnOnce() -> T) -> T {
    match dispatch {
        Some(d) => tracing::dispatcher::with_default(d, body),
        None => body(),
    }
}

/// [`call`] on a handle that stays as it is.
///
/// # Safety
/// `p` is NULL or a handle; `err` is NULL or may be written to.
pub(crate) unsafe fn call_on<N: Noun>(
    function: &'static str,
    p: *const N,
    err: *mut *mut smbgw_error,
    body: impl FnOnce(&N::Body) -> Result<()>,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        call(function, err, || {
            let slot = look_usable(p)?;
            // SAFETY: a live slot; the caller lets no other thread change it during the call.
            let on = &(*slot).body;
            under(N::dispatch(on), || body(on))
        })
    }
}

/// [`call`] on a handle that changes. A panic leaves it unusable: it can then only be freed.
///
/// # Safety
/// As [`call_on`], and no other call on this handle is under way.
pub(crate) unsafe fn call_on_mut<N: Noun>(
    function: &'static str,
    p: *mut N,
    err: *mut *mut smbgw_error,
    body: impl FnOnce(&mut N::Body) -> Result<()>,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        call(function, err, || {
            let slot = look_usable(p.cast_const())?;
            // SAFETY: a live slot, and the caller makes one call at a time.
            let slot = &mut *slot;
            let dispatch = N::dispatch(&slot.body).cloned();
            slot.broken = true;
            let result = under(dispatch.as_ref(), || body(&mut slot.body));
            slot.broken = false;
            result
        })
    }
}

/// Reads something from a handle; `otherwise` is the answer for NULL, a wrong handle or a panic.
///
/// # Safety
/// `p` is NULL or a handle.
pub(crate) unsafe fn read<N: Noun, T>(p: *const N, otherwise: T, body: impl FnOnce(&N::Body) -> T) -> T {
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as promised by the caller.
        let slot = unsafe { look(p) }.ok()?;
        // SAFETY: a live slot.
        Some(body(unsafe { &(*slot).body }))
    }));
    match result {
        Ok(Some(answer)) => answer,
        Ok(None) => otherwise,
        Err(payload) => {
            discard(payload);
            otherwise
        }
    }
}

/// Gives a handle back. NULL, a wrong handle and a cleared tag are ignored; in a child process only memory is released.
///
/// # Safety
/// `p` is NULL or a handle that nobody uses any more.
pub(crate) unsafe fn free<N: Noun>(p: *mut N) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as promised by the caller.
        let Ok(slot) = (unsafe { look(p.cast_const()) }) else { return };
        // SAFETY: a live slot.
        if unsafe { (*slot).tag } != N::TAG {
            return; // in static memory
        }
        // SAFETY: live; volatile, because a plain store before a free is dead and would be left out.
        unsafe { ptr::write_volatile(&raw mut (*slot).tag, 0) };
        // SAFETY: made by `handle`, and the cleared tag keeps others from getting here.
        let Slot { pid, body, .. } = *unsafe { Box::from_raw(slot) };
        if N::BOUND_TO_PROCESS && pid != std::process::id() {
            // Memory, and this process's copies of descriptors: locks and children know their owner and leave everything else alone.
            drop(body);
        } else {
            let dispatch = N::dispatch(&body).cloned();
            under(dispatch.as_ref(), move || drop(body));
        }
    }));
    if let Err(payload) = result {
        discard(payload);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ffi::CStr;
    use std::rc::Rc;

    use super::*;
    use crate::error::{SMBGW_E_ARGUMENT, SMBGW_E_FORKED, smbgw_error_code, smbgw_error_free, smbgw_error_message};

    /// A noun whose body counts how often it was dropped.
    struct Thing;

    struct Body {
        value: u32,
        drops: Rc<Cell<u32>>,
    }

    impl Drop for Body {
        fn drop(&mut self) {
            self.drops.set(self.drops.get() + 1);
        }
    }

    impl Noun for Thing {
        type Body = Body;
        const NAME: &'static str = "thing";
        const TAG: u64 = 0x0074_6869_6e67;
        const BOUND_TO_PROCESS: bool = true;

        fn dispatch(_: &Body) -> Option<&Dispatch> {
            None
        }
    }

    /// Another noun of the same shape.
    struct Other;

    impl Noun for Other {
        type Body = Body;
        const NAME: &'static str = "other thing";
        const TAG: u64 = 0x006f_7468_6572;
        const BOUND_TO_PROCESS: bool = false;

        fn dispatch(_: &Body) -> Option<&Dispatch> {
            None
        }
    }

    fn thing(value: u32) -> (*mut Thing, Rc<Cell<u32>>) {
        let drops = Rc::new(Cell::new(0));
        (handle::<Thing>(Body { value, drops: Rc::clone(&drops) }), drops)
    }

    /// Code and message of what `f` stores.
    fn caught(f: impl FnOnce(*mut *mut smbgw_error) -> i32) -> (i32, String) {
        let mut err = ptr::null_mut();
        let code = f(&raw mut err);
        // SAFETY: an error object or NULL.
        unsafe {
            assert_eq!(smbgw_error_code(err), code);
            let message = CStr::from_ptr(smbgw_error_message(err)).to_str().expect("UTF-8").to_owned();
            smbgw_error_free(err);
            (code, message)
        }
    }

    #[test]
    fn outputs_are_cleared_before_anything_else() {
        let mut err: *mut smbgw_error = ptr::dangling_mut();
        let mut number = 7;
        let mut thing: *mut Thing = ptr::dangling_mut();
        // SAFETY: live places.
        unsafe {
            let number = Out::number("number", &raw mut number);
            let thing = Out::handle("thing", &raw mut thing);
            let code = call("f", &raw mut err, || {
                number.ready()?;
                thing.ready()?;
                Ok(())
            });
            assert_eq!(code, SMBGW_OK);
        }
        assert_eq!((number, thing.is_null(), err.is_null()), (0, true, true));
    }

    #[test]
    fn handles_are_told_apart() {
        let (live, drops) = thing(5);
        // SAFETY: live handles, or what the boundary has to refuse: NULL, another type, no alignment.
        unsafe {
            let (code, message) = caught(|err| {
                call_on("f", live, err, |body| if body.value == 5 { Ok(()) } else { Err(argument("another body")) })
            });
            assert_eq!((code, message.as_str()), (SMBGW_OK, ""));

            let (code, message) = caught(|err| call_on("f", ptr::null::<Thing>(), err, |_| Ok(())));
            assert_eq!((code, message.as_str()), (SMBGW_E_ARGUMENT, "the thing is NULL"));

            let (code, message) = caught(|err| call_on("f", live.cast::<Other>(), err, |_| Ok(())));
            assert_eq!(code, SMBGW_E_ARGUMENT);
            assert!(message.contains("given as other thing is another object"), "{message}");

            let odd = live.cast::<u8>().add(1).cast::<Thing>();
            let (code, message) = caught(|err| call_on("f", odd, err, |_| Ok(())));
            assert_eq!(code, SMBGW_E_ARGUMENT);
            assert!(message.contains("not aligned"), "{message}");

            free(live.cast::<Other>());
            assert_eq!(drops.get(), 0, "a wrong type is not freed");
            free(live);
            free(ptr::null_mut::<Thing>());
        }
        assert_eq!(drops.get(), 1);
    }

    #[test]
    fn a_handle_of_another_process_is_refused_and_can_be_freed() {
        let (foreign, drops) = thing(5);
        // SAFETY: a live handle; its pid is made another's, as it is after a fork.
        unsafe {
            (*foreign.cast::<Slot<Body>>()).pid += 1;
            let (code, message) = caught(|err| call_on("f", foreign, err, |_| Ok(())));
            assert_eq!(code, SMBGW_E_FORKED);
            assert!(message.contains("belongs to process"), "{message}");
            let (code, _) = caught(|err| call_on_mut("f", foreign, err, |_| Ok(())));
            assert_eq!(code, SMBGW_E_FORKED);
            free(foreign);
        }
        assert_eq!(drops.get(), 1);
    }

    #[test]
    fn a_panic_becomes_an_error_and_breaks_only_what_it_changed() {
        let (live, drops) = thing(5);
        // SAFETY: a live handle.
        unsafe {
            let (code, message) = caught(|err| call_on("reading", live, err, |_| panic!("at {}", 5)));
            assert_eq!((code, message.as_str()), (SMBGW_E_INTERNAL, "internal error in reading: at 5"));
            assert_eq!(call_on("reading", live, ptr::null_mut(), |_| Ok(())), SMBGW_OK);

            let (code, _) = caught(|err| call_on_mut("changing", live, err, |_| panic!("half-way")));
            assert_eq!(code, SMBGW_E_INTERNAL);
            let (code, message) = caught(|err| call_on_mut("changing", live, err, |_| Ok(())));
            assert_eq!(code, SMBGW_E_INTERNAL);
            assert!(message.contains("left unfinished"), "{message}");
            free(live);
        }
        assert_eq!(drops.get(), 1);
    }

    #[test]
    fn an_error_does_not_break_a_handle() {
        let (live, _) = thing(5);
        // SAFETY: a live handle.
        unsafe {
            assert_eq!(call_on_mut("f", live, ptr::null_mut(), |_| Err(argument("no"))), SMBGW_E_ARGUMENT);
            assert_eq!(call_on_mut("f", live, ptr::null_mut(), |_| Ok(())), SMBGW_OK);
            free(live);
        }
    }

    #[test]
    fn the_last_resort_can_be_read_and_freed_like_any_error() {
        let error = last_resort();
        for _ in 0..2 {
            // SAFETY: static memory; freeing it does nothing.
            unsafe {
                assert_eq!(smbgw_error_code(error), SMBGW_E_INTERNAL);
                assert!(CStr::from_ptr(smbgw_error_message(error)).to_bytes().starts_with(b"internal error"));
                let detail = CStr::from_ptr(crate::error::smbgw_error_detail(error)).to_str().expect("UTF-8");
                let detail: smbgw_core::error::ErrorDoc = serde_json::from_str(detail).expect("an ErrorDoc");
                assert_eq!(detail.code, SMBGW_E_INTERNAL);
                smbgw_error_free(error);
            }
        }
    }

    fn text(bytes: &[u8]) -> Text<'_> {
        // SAFETY: a live slice.
        unsafe { Text::new("id", bytes.as_ptr().cast(), bytes.len()) }
    }

    fn said<T: std::fmt::Debug>(result: Result<T>) -> String {
        let e = result.expect_err("refused");
        assert_eq!(e.kind(), Kind::Argument);
        e.to_string()
    }

    #[test]
    fn text_is_checked_and_the_parameter_named() {
        assert_eq!(text("Büro".as_bytes()).name().expect("fine"), "Büro");
        assert_eq!(said(text(b"B\xfcro").name()), "id is not UTF-8: byte 1 does not belong there");
        assert_eq!(said(text(b"a\0b").name()), "id has a NUL inside, at byte 1");
        assert_eq!(said(text(b"").name()), "id is empty");
        // SAFETY: NULL is refused before it is looked at, and so is a length that no object has.
        let (null, endless) = unsafe { (Text::new("id", ptr::null(), 3), Text::new("id", c"".as_ptr(), usize::MAX)) };
        assert_eq!(said(null.required()), "id is NULL");
        assert!(said(endless.bytes()).contains("larger than any object"));
    }

    #[test]
    fn parameters_are_an_object_or_nothing() {
        // SAFETY: NULL is not looked at.
        let (nothing, wrong) = unsafe { (Text::new("params", ptr::null(), 0), Text::new("params", ptr::null(), 9)) };
        assert!(nothing.object().expect("fine").is_empty());
        assert_eq!(said(wrong.object()), "params is NULL");
        assert!(text(b"").object().expect("fine").is_empty());
        assert_eq!(text(b"{\"a\":1}").object().expect("fine").len(), 1);
        assert_eq!(said(text(b"[]").object()), "id is JSON, but not an object");
        let message = said(text(b"{\"password\": \"canary\",").object());
        assert!(message.contains("line 1") && !message.contains("canary"), "{message}");
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Numbers {
        size: usize,
        a: u64,
        b: u64,
    }

    /// A caller's struct of a later version.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Later {
        known: Numbers,
        c: u64,
    }

    const OURS: Numbers = Numbers { size: 0, a: 1, b: 2 };

    #[test]
    fn structs_of_other_versions_are_filled_as_far_as_both_know_them() {
        let mut later = Later { known: Numbers { size: size_of::<Later>(), a: 9, b: 9 }, c: 9 };
        // SAFETY: the struct is as large as its size says.
        unsafe { OutStruct::clear("out", (&raw mut later).cast::<Numbers>(), 16) }.ready().expect("fine").put(&OURS);
        assert_eq!(later, Later { known: Numbers { size: size_of::<Later>(), a: 1, b: 2 }, c: 0 });

        let mut earlier = Numbers { size: 16, a: 9, b: 9 };
        // SAFETY: as above.
        unsafe { OutStruct::clear("out", &raw mut earlier, 16) }.ready().expect("fine").put(&OURS);
        assert_eq!(earlier, Numbers { size: 16, a: 1, b: 9 }, "what the caller does not have is not written");

        for size in [0, 8, 15, LARGEST + 1, usize::MAX] {
            let mut wrong = Numbers { size, a: 9, b: 9 };
            // SAFETY: nothing but the size is looked at.
            let refused = unsafe { OutStruct::clear("out", &raw mut wrong, 16) }.ready();
            assert!(refused.is_err_and(|e| e.to_string().contains("_INIT")), "{size}");
            assert_eq!(wrong, Numbers { size, a: 9, b: 9 });
        }
    }

    #[test]
    fn errors_and_buffers_may_go_to_another_thread() {
        fn check<T: Send + Sync>() {}
        check::<<smbgw_error as Noun>::Body>();
        check::<<crate::buffer::smbgw_buffer as Noun>::Body>();
    }
}
