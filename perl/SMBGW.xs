/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The Perl side of libsmbgw: handles, text, errors; no policy, no JSON. It knows Perl's API and smbgw.h; what documents
 * mean is the business of the modules below lib/SMBGW.
 *
 * Every XSUB keeps one order: read the arguments (this may die: nothing is owned yet); the handle last, because reading an argument may run
 * Perl code; call the library; copy what came out into mortal values, with the library's objects registered for
 * destruction meanwhile; free them; only then die. The library never calls back into Perl, so no Rust frame is ever jumped over.
 * Results are pushed after RESULTS: Perl code that ran meanwhile may have moved the stack.
 */
#define PERL_NO_GET_CONTEXT
#include "EXTERN.h"
#include "perl.h"
#include "XSUB.h"

#include <smbgw.h>

/* The stack pointer as it is now, below the arguments. */
#define RESULTS SPAGAIN; SP -= items

/* --- handles -------------------------------------------------------------------------------------------------------------
 * A Perl object is a reference to an empty scalar that carries the handle as magic. The address of the vtable is what tells ours from
 * anybody else's: it cannot be forged from Perl, dumped, or copied. */

static int context_freed(pTHX_ SV *sv, MAGIC *mg)
{
    smbgw_context *handle = (smbgw_context *)mg->mg_ptr;
    PERL_UNUSED_VAR(sv);
    mg->mg_ptr = NULL;
    smbgw_context_free(handle);
    return 0;
}

static int run_freed(pTHX_ SV *sv, MAGIC *mg)
{
    smbgw_run *handle = (smbgw_run *)mg->mg_ptr;
    PERL_UNUSED_VAR(sv);
    mg->mg_ptr = NULL;
    smbgw_run_free(handle);
    return 0;
}

#ifdef USE_ITHREADS
/* A new thread gets no handle, even where CLONE_SKIP did not keep the object from it. */
static int not_cloned(pTHX_ MAGIC *mg, CLONE_PARAMS *params)
{
    PERL_UNUSED_VAR(params);
    mg->mg_ptr = NULL;
    return 0;
}
#else
#define not_cloned NULL
#endif

static const MGVTBL context_vtbl = { NULL, NULL, NULL, NULL, context_freed, NULL, not_cloned, NULL };
static const MGVTBL run_vtbl = { NULL, NULL, NULL, NULL, run_freed, NULL, not_cloned, NULL };

/* A mortal object of `class` that owns the handle. The handle has to be registered with SAVEDESTRUCTOR_X until *owned is cleared here. */
static SV *wrap(pTHX_ HV *class, const MGVTBL *vtbl, void **owned)
{
    SV *body = newSV(0);
    SV *object = sv_2mortal(newRV_noinc(body));
    MAGIC *mg = sv_magicext(body, NULL, PERL_MAGIC_ext, vtbl, (const char *)*owned, 0);

    *owned = NULL;
#ifdef USE_ITHREADS
    mg->mg_flags |= MGf_DUP;
#else
    PERL_UNUSED_VAR(mg);
#endif
    sv_bless(object, class);
    SvREADONLY_on(body);
    return object;
}

/* The handle of an object, or NULL if this is none of ours. */
static void *unwrap(pTHX_ SV *object, const MGVTBL *vtbl)
{
    MAGIC *mg;

    SvGETMAGIC(object);
    /* Only from SVt_PVMG on has a scalar a place for magic; mg_findext does not look. */
    if (!SvROK(object) || SvTYPE(SvRV(object)) < SVt_PVMG)
        return NULL;
    mg = mg_findext(SvRV(object), PERL_MAGIC_ext, vtbl);
    return mg == NULL ? NULL : (void *)mg->mg_ptr;
}

static smbgw_context *context_of(pTHX_ SV *object)
{
    smbgw_context *handle = (smbgw_context *)unwrap(aTHX_ object, &context_vtbl);
    if (handle == NULL)
        croak("not a live SMBGW::Context: made by SMBGW::Context->new, in this thread, and not copied");
    return handle;
}

static smbgw_run *run_of(pTHX_ SV *object)
{
    smbgw_run *handle = (smbgw_run *)unwrap(aTHX_ object, &run_vtbl);
    if (handle == NULL)
        croak("not a live SMBGW::Run: made by a SMBGW::Context, in this thread, and not copied");
    return handle;
}

/* --- results -------------------------------------------------------------------------------------------------------------
 * What a call gave, registered with Perl so that it is freed on every way out. */

typedef struct {
    smbgw_error *err;
    smbgw_buffer *doc;
    void *context;
    void *run;
} Owned;

static void drop_owned(pTHX_ void *p)
{
    Owned *owned = (Owned *)p;
    smbgw_error *err = owned->err;
    smbgw_buffer *doc = owned->doc;
    void *context = owned->context, *run = owned->run;

    owned->err = NULL;
    owned->doc = NULL;
    owned->context = owned->run = NULL;
    smbgw_error_free(err);
    smbgw_buffer_free(doc);
    smbgw_run_free((smbgw_run *)run);
    smbgw_context_free((smbgw_context *)context);
}

static SV *document(pTHX_ const smbgw_buffer *from)
{
    return newSVpvn_flags(smbgw_buffer_data(from), smbgw_buffer_len(from), SVf_UTF8 | SVs_TEMP);
}

static SV *text(pTHX_ const char *from)
{
    return newSVpvn_flags(from, strlen(from), SVf_UTF8);
}

/* Copies the error into mortal values; returns an array of code, message, detail. */
static AV *copy_error(pTHX_ int32_t code, const smbgw_error *err)
{
    AV *parts = (AV *)sv_2mortal((SV *)newAV());
    av_extend(parts, 2);
    av_store(parts, 0, newSViv(code));
    av_store(parts, 1, text(aTHX_ smbgw_error_message(err)));
    av_store(parts, 2, text(aTHX_ smbgw_error_detail(err)));
    return parts;
}

/* A SMBGW::Error of such an array. Runs Perl code: nothing of the library may be held unregistered. */
static SV *error_object(pTHX_ AV *parts)
{
    dSP;
    SV *object;
    I32 i;

    ENTER;
    SAVETMPS;
    PUSHMARK(SP);
    XPUSHs(sv_2mortal(newSVpvs("SMBGW::Error")));
    for (i = 0; i < 3; i++) {
        SV **part = av_fetch(parts, i, 0);
        XPUSHs(part == NULL ? &PL_sv_undef : *part);
    }
    PUTBACK;
    call_method("from_library", G_SCALAR);
    SPAGAIN;
    object = SvREFCNT_inc(POPs);
    PUTBACK;
    FREETMPS;
    LEAVE;
    return sv_2mortal(object);
}

/* Frees what the call gave and dies with its error. */
static void die_with(pTHX_ int32_t code, Owned *owned) __attribute__noreturn__;
static void die_with(pTHX_ int32_t code, Owned *owned)
{
    AV *parts = copy_error(aTHX_ code, owned->err);
    drop_owned(aTHX_ owned);
    croak_sv(error_object(aTHX_ parts));
}

/* An Owned for the rest of the current scope. Its memory is the scope's too, so that it is there when the destructor runs. */
static Owned *own(pTHX)
{
    SV *memory = newSV(sizeof(Owned));
    Owned *owned = (Owned *)SvPVX(memory);

    Zero(owned, 1, Owned);
    SAVEFREESV(memory);
    SAVEDESTRUCTOR_X(drop_owned, owned);
    return owned;
}

/* Bytes, read where they are: a secret is not copied about. What is none is refused before anything is owned. */
static const char *bytes_of(pTHX_ SV *sv, STRLEN *len, const char *what)
{
    SvGETMAGIC(sv);
    if (!SvOK(sv))
        croak("%s is not defined", what);
    if (SvROK(sv))
        croak("%s has to be bytes, not a reference", what);
    if (SvUTF8(sv) && !sv_utf8_downgrade(sv, TRUE))
        croak("%s has to be bytes: encode it first", what);
    return SvPV_nomg(sv, *len);
}

static const char *text_of(pTHX_ SV *sv, STRLEN *len, const char *what)
{
    SvGETMAGIC(sv);
    if (!SvOK(sv))
        croak("%s is not defined", what);
    return SvPVutf8(sv, *len);
}

MODULE = SMBGW    PACKAGE = SMBGW

PROTOTYPES: DISABLE

BOOT:
    if (smbgw_abi_version() != SMBGW_ABI_VERSION)
        croak("SMBGW was built for binary interface %lu of libsmbgw, but the installed library (version %s) has %lu: "
              "install library and module of the same version",
              (unsigned long)SMBGW_ABI_VERSION, smbgw_version(), (unsigned long)smbgw_abi_version());

SV *
version()
    CODE:
        RETVAL = newSVpv(smbgw_version(), 0);
    OUTPUT:
        RETVAL

UV
abi_version()
    CODE:
        RETVAL = smbgw_abi_version();
    OUTPUT:
        RETVAL

MODULE = SMBGW    PACKAGE = SMBGW::Context

void
_new(SV *class, SV *options)
    PPCODE:
    {
        STRLEN len;
        HV *stash = gv_stashsv(class, GV_ADD);
        const char *json = text_of(aTHX_ options, &len, "options");
        smbgw_context *handle = NULL;
        SV *object;
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = smbgw_context_new(json, len, &handle, &owned->err);
        owned->context = handle;
        if (code != SMBGW_OK)
            die_with(aTHX_ code, owned);
        object = wrap(aTHX_ stash, &context_vtbl, &owned->context);
        LEAVE;
        RESULTS;
        XPUSHs(object);
    }

void
_query(SV *self, SV *op, SV *params)
    PPCODE:
    {
        STRLEN op_len, params_len;
        const char *op_text = text_of(aTHX_ op, &op_len, "the operation");
        const char *json = text_of(aTHX_ params, &params_len, "params");
        smbgw_context *handle = context_of(aTHX_ self);
        SV *answer;
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = smbgw_query(handle, op_text, op_len, json, params_len, &owned->doc, &owned->err);
        if (code != SMBGW_OK)
            die_with(aTHX_ code, owned);
        answer = document(aTHX_ owned->doc);
        LEAVE;
        RESULTS;
        XPUSHs(answer);
    }

void
usage(SV *self, SV *id)
    PPCODE:
    {
        STRLEN len;
        const char *name = text_of(aTHX_ id, &len, "id");
        const smbgw_context *handle = context_of(aTHX_ self);
        smbgw_usage usage = SMBGW_USAGE_INIT;
        smbgw_error *err = NULL;
        int32_t code = smbgw_usage_read(handle, name, len, &usage, &err);

        if (code != SMBGW_OK) {
            Owned *owned;
            ENTER;
            /* Nothing of Perl's has run since the call, so registering now is early enough for all but running out of memory. */
            owned = own(aTHX);
            owned->err = err;
            die_with(aTHX_ code, owned);
        }
        RESULTS;
        EXTEND(SP, 7);
        mPUSHu(usage.total);
        mPUSHu(usage.avail);
        mPUSHu(usage.used);
        mPUSHi(usage.active ? 1 : 0);
        mPUSHi(usage.age_ms);
        mPUSHu(usage.limit);
        mPUSHu(usage.lag_ms);
    }

void
_begin(SV *self, SV *op, SV *params)
    PPCODE:
    {
        STRLEN op_len, params_len;
        const char *op_text = text_of(aTHX_ op, &op_len, "the operation");
        const char *json = text_of(aTHX_ params, &params_len, "params");
        smbgw_context *handle = context_of(aTHX_ self);
        smbgw_run *run = NULL;
        SV *object;
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = smbgw_run_begin(handle, op_text, op_len, json, params_len, &run, &owned->err);
        owned->run = run;
        if (code != SMBGW_OK)
            die_with(aTHX_ code, owned);
        object = wrap(aTHX_ gv_stashpvs("SMBGW::Run", GV_ADD), &run_vtbl, &owned->run);
        LEAVE;
        RESULTS;
        XPUSHs(object);
    }

void
resume(SV *self, SV *opid)
    PPCODE:
    {
        STRLEN len;
        const char *name = text_of(aTHX_ opid, &len, "opid");
        smbgw_context *handle = context_of(aTHX_ self);
        smbgw_run *run = NULL;
        SV *object;
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = smbgw_run_resume(handle, name, len, &run, &owned->err);
        owned->run = run;
        if (code != SMBGW_OK)
            die_with(aTHX_ code, owned);
        object = wrap(aTHX_ gv_stashpvs("SMBGW::Run", GV_ADD), &run_vtbl, &owned->run);
        LEAVE;
        RESULTS;
        XPUSHs(object);
    }

void
log_take(SV *self)
    PPCODE:
    {
        smbgw_context *handle = context_of(aTHX_ self);
        SV *answer;
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = smbgw_log_take(handle, &owned->doc, &owned->err);
        if (code != SMBGW_OK)
            die_with(aTHX_ code, owned);
        answer = document(aTHX_ owned->doc);
        LEAVE;
        RESULTS;
        XPUSHs(answer);
    }

MODULE = SMBGW    PACKAGE = SMBGW::Run

void
secret(SV *self, SV *name, SV *bytes)
    PPCODE:
    {
        STRLEN name_len, len;
        const char *name_text = text_of(aTHX_ name, &name_len, "the name of the secret");
        const char *data = bytes_of(aTHX_ bytes, &len, "the secret");
        smbgw_run *handle = run_of(aTHX_ self);
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = smbgw_run_secret(handle, name_text, name_len, data, len, &owned->err);
        if (code != SMBGW_OK)
            die_with(aTHX_ code, owned);
        LEAVE;
        XSRETURN_EMPTY;
    }

void
_step(SV *self)
    PPCODE:
    {
        /* (state, document, error or undef); dies only when the step could not be made. */
        smbgw_run *handle = run_of(aTHX_ self);
        uint32_t state = SMBGW_RUN_WORKING;
        AV *parts = NULL;
        SV *answer;
        SV *error = NULL;
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = smbgw_run_step(handle, &state, &owned->doc, &owned->err);
        if (code != SMBGW_OK && state != SMBGW_RUN_FAILED)
            die_with(aTHX_ code, owned);
        answer = document(aTHX_ owned->doc);
        if (code != SMBGW_OK)
            parts = copy_error(aTHX_ code, owned->err);
        drop_owned(aTHX_ owned);
        if (parts != NULL)
            error = error_object(aTHX_ parts);
        LEAVE;
        RESULTS;
        EXTEND(SP, 3);
        mPUSHu(state);
        PUSHs(answer);
        PUSHs(error == NULL ? &PL_sv_undef : error);
    }

void
unwind(SV *self)
    ALIAS:
        interrupt = 1
    PPCODE:
    {
        smbgw_run *handle = run_of(aTHX_ self);
        Owned *owned;
        int32_t code;

        ENTER;
        owned = own(aTHX);
        code = ix == 0 ? smbgw_run_unwind(handle, &owned->err) : smbgw_run_interrupt(handle, &owned->err);
        if (code != SMBGW_OK)
            die_with(aTHX_ code, owned);
        LEAVE;
        XSRETURN_EMPTY;
    }
