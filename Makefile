# SPDX-License-Identifier: MIT OR Apache-2.0
# The project's commands. `make build`, `make install [DESTDIR=] [PREFIX=/usr]`, and the tests.
#
# C and Perl are built and tested against a staged installation (.cache/stage), never against target/: what is tested is what is installed.

SHELL = /bin/sh
.DELETE_ON_ERROR:

CARGO ?= cargo
PERL ?= perl
CC ?= cc
PREFIX ?= /usr
DESTDIR ?=
# The cargo profile: release, or dev for a quick build.
PROFILE ?= release

ROOT := $(CURDIR)
CACHE := $(ROOT)/.cache
STAGE := $(CACHE)/stage
XSDIR := $(CACHE)/perl
MULTIARCH := $(shell dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || $(CC) -print-multiarch)
LIBDIR = $(PREFIX)/lib$(if $(MULTIARCH),/$(MULTIARCH))
# Where systemd of this Debian wants the units of packages.
UNITDIR ?= $(or $(shell pkg-config --variable=systemdsystemunitdir systemd 2>/dev/null),/lib/systemd/system)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOMAJOR := 0
CARGO_OUT := $(or $(CARGO_TARGET_DIR),$(ROOT)/target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
INSTALL := install
# More for the Perl module's Makefile.PL, such as OPTIMIZE=…
XS_OPTIONS ?=
# Labs that run at the same time; most of their time they wait.
JOBS ?= 3
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Variables that must survive sudo.
KEEP := env SMBGW_STAGE=$(STAGE) SMBGW_ALL=$(SMBGW_ALL) CI=$(CI)

# The hand inside a container runs on the Debian of the container, whichever that is: it brings its own C library.
HOST_TRIPLE := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
GUEST_OUT := $(or $(CARGO_TARGET_DIR),$(ROOT)/target)/guest/$(HOST_TRIPLE)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: build lib guest quota-suite xs header install install-lib install-guest install-xs install-pve stage stage-lib deps lint test test-all test-rust test-c test-perl \
	test-pve test-lab test-slow test-slow-heavy test-slow-light run bench deb symbols

build: lib guest xs

lib:
	$(CARGO) build --locked --profile $(PROFILE) -p smbgw-ffi

# In a directory of its own: other flags would build everything else anew. Without default features: no SQLite.
guest:
	RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$(or $(CARGO_TARGET_DIR),$(ROOT)/target)/guest \
		$(CARGO) build --locked --profile $(PROFILE) --target $(HOST_TRIPLE) --no-default-features -p smbgw-core --bin smbgw-guest

# What every file system with limits has to do, for the lab and its emulated machines; see tests/quota. It asks the library's own queries, so it has
# SQLite in it.
quota-suite:
	RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$(or $(CARGO_TARGET_DIR),$(ROOT)/target)/guest SQLITE3_STATIC=1 \
		$(CARGO) build --locked --profile $(PROFILE) --target $(HOST_TRIPLE) -p smbgw-core --example quota-suite
	$(INSTALL) -D -m 0755 $(GUEST_OUT)/examples/quota-suite $(CACHE)/quota-suite

# Rewrites include/smbgw.h from smbgw-ffi/src. Review the difference.
header:
	SMBGW_BLESS=1 $(CARGO) test --locked -p smbgw-ffi --test header

# --- the library ---------------------------------------------------------------------------------------------------------

install-lib: lib
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	$(INSTALL) -m 0644 $(CARGO_OUT)/libsmbgw.so $(DESTDIR)$(LIBDIR)/libsmbgw.so.$(VERSION)
	ln -sfn libsmbgw.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libsmbgw.so.$(SOMAJOR)
	ln -sfn libsmbgw.so.$(SOMAJOR) $(DESTDIR)$(LIBDIR)/libsmbgw.so
	$(INSTALL) -m 0644 $(CARGO_OUT)/libsmbgw.a $(DESTDIR)$(LIBDIR)/libsmbgw.a
	$(INSTALL) -m 0644 include/smbgw.h $(DESTDIR)$(PREFIX)/include/smbgw.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' smbgw-ffi/smbgw.pc.in \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/smbgw.pc

stage-lib:
	$(MAKE) --no-print-directory install-lib DESTDIR=$(STAGE)

install-guest: guest
	$(INSTALL) -D -m 0755 $(GUEST_OUT)/smbgw-guest $(DESTDIR)$(PREFIX)/lib/smbgw/smbgw-guest
	ln -sfn smbgw-guest $(DESTDIR)$(PREFIX)/lib/smbgw/smbgw-dfree

# --- the Perl module -----------------------------------------------------------------------------------------------------

# Built in a copy, so that the sources stay clean; linked with the staged library.
xs: stage-lib
	mkdir -p $(XSDIR)
	cp -Rp perl/. $(XSDIR)/
	cd $(XSDIR) && $(PERL) Makefile.PL INSTALLDIRS=vendor NO_PACKLIST=1 \
		smbgw_include=$(STAGE)$(PREFIX)/include smbgw_lib=$(STAGE)$(LIBDIR) $(XS_OPTIONS)
	$(MAKE) --no-print-directory -C $(XSDIR)

install-xs: xs
	$(MAKE) --no-print-directory -C $(XSDIR) pure_install DESTDIR=$(DESTDIR)

# --- the Proxmox modules, the command, the units -------------------------------------------------------------------------

install-pve:
	set -e; if [ -d PVE ]; then find PVE -type f -name '*.pm' | sort | while read -r file; do \
		$(INSTALL) -D -m 0644 "$$file" "$(DESTDIR)$(PREFIX)/share/perl5/$$file"; done; fi
	set -e; for file in $(wildcard PVE/bin/*); do $(INSTALL) -D -m 0755 "$$file" "$(DESTDIR)$(PREFIX)/sbin/$${file##*/}"; done
	set -e; for file in $(wildcard PVE/systemd/*.service); do \
		$(INSTALL) -D -m 0644 "$$file" "$(DESTDIR)$(UNITDIR)/$${file##*/}"; done
	set -e; for file in $(wildcard PVE/templates/default/*.hbs); do \
		$(INSTALL) -D -m 0644 "$$file" "$(DESTDIR)$(PREFIX)/share/pve-manager/templates/default/$${file##*/}"; done
	$(INSTALL) -D -m 0644 PVE/completion/pve-smbgateway "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pve-smbgateway"
	$(INSTALL) -D -m 0644 PVE/completion/_pve-smbgateway "$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_pve-smbgateway"
	$(INSTALL) -d "$(DESTDIR)$(PREFIX)/share/man/man1"
	pod2man --utf8 --section=1 --center='SMB gateway' --release='$(VERSION)' --date=' ' PVE/doc/pve-smbgateway.pod "$(DESTDIR)$(PREFIX)/share/man/man1/pve-smbgateway.1"
	set -e; for file in $(wildcard PVE/man/*.8); do $(INSTALL) -D -m 0644 "$$file" "$(DESTDIR)$(PREFIX)/share/man/man8/$${file##*/}"; done

install: install-lib install-guest install-xs install-pve

# One thing after the other: `xs` puts the library there as well.
stage:
	$(MAKE) --no-print-directory -j 1 install DESTDIR=$(STAGE)

# --- Debian packages ------------------------------------------------------------------------------------------------------

# Binary packages of the tree as it is, into .cache/deb; debian/rules calls `make install`. With a Rust that is not Debian's (rustup) a build profile
# takes the place of its packages.
DEBDIR := $(CACHE)/deb
DEBFILE = smbgw_$(VERSION)_$(shell dpkg-architecture -qDEB_HOST_ARCH)

deb:
	.ci/deps deb
	[ "$$(dpkg-parsechangelog -SVersion)" = $(VERSION) ] || { echo "debian/changelog and Cargo.toml have different versions" >&2; exit 1; }
	rm -rf $(DEBDIR)
	mkdir -p $(DEBDIR)
	env -u MAKEFLAGS PROFILE=$(PROFILE) DEB_DESTDIR=$(DEBDIR) dpkg-buildpackage -b -us -uc --buildinfo-file=$(DEBDIR)/$(DEBFILE).buildinfo \
		--buildinfo-option=-u$(DEBDIR) --changes-file=$(DEBDIR)/$(DEBFILE).changes --changes-option=-u$(DEBDIR) \
		$(if $(shell dpkg-query -W -f '$${Status}' cargo cargo-web 2>/dev/null | grep 'ok installed'),,-Ppkg.smbgw.rustup)
	ls -l $(DEBDIR)

# Adds what the library exports and debian/libsmbgw0.symbols does not name yet, as of this version.
symbols:
	grep '^[a-z]' smbgw-ffi/abi/symbols.txt | while read -r name; do \
		grep -q "^ $$name@" debian/libsmbgw0.symbols || echo " $$name@Base $(VERSION)" >> debian/libsmbgw0.symbols; done

# --- tests ---------------------------------------------------------------------------------------------------------------
#
# `make test` installs what it needs, then runs every tier that exists but for what is slow. `make test-all` adds that: every kill point and
# every place of the loops on the simulated machine, and what takes long of real parts (`make test-slow`). Tests that need root or a real part say so and are skipped where they cannot run; with CI=true that is a failure.

deps:
	.ci/deps test

# Lints run where the tools are (Debian: rustfmt, rust-clippy).
lint:
	@if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --all --check; else echo "lint: rustfmt is not here, skipped"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then $(CARGO) clippy --locked --workspace --all-targets -- -D warnings; \
		else echo "lint: clippy is not here, skipped"; fi

test-rust:
	$(CARGO) test --locked --workspace

# Variants: shared and static, plain, address and undefined-behaviour sanitizers, valgrind.
test-c: stage
	SMBGW_STAGE=$(STAGE) SMBGW_PREFIX=$(PREFIX) SMBGW_LIBDIR=$(LIBDIR) prove tests/c/run.t

# Once more under valgrind; SMBGW_VALGRIND=0 leaves that out.
test-perl: stage
	cd $(XSDIR) && LD_LIBRARY_PATH=$(STAGE)$(LIBDIR) SMBGW_VALGRIND=$(or $(SMBGW_VALGRIND),1) prove -b t

# The storage plugin against stand-ins of Proxmox's modules, or the real ones where SMBGW_PVE_PERL5LIB names them.
test-pve: stage
	SMBGW_STAGE=$(STAGE) env -u MAKEFLAGS -u MFLAGS prove tests/pve/t

# Real Samba in private namespaces, real file systems; needs root. Each file has a machine of its own, so several run at once.

test-lab: stage quota-suite
	SMBGW_STAGE=$(STAGE) $(SUDO) $(KEEP) prove --timer -j $(JOBS) tests/lab

# Real parts that take long to bring up (a ZFS module and a Ceph cluster are built and cached first), many clients, every error of a domain,
# kills. What needs much of the machine goes one after the other, and the rest goes beside it.
HEAVY := $(addprefix tests/slow/,$(addsuffix .t,metrics-many packages packages-other quota-ceph quota-smb quota-zfs))
SLOW = SMBGW_STAGE=$(STAGE) $(SUDO) $(KEEP) env -u MAKEFLAGS -u MFLAGS prove --timer

test-slow: stage quota-suite
	$(MAKE) --no-print-directory -k -j $(JOBS) test-slow-heavy test-slow-light

test-slow-heavy:
	$(SLOW) $(HEAVY)

test-slow-light:
	$(SLOW) $(filter-out $(HEAVY),$(wildcard tests/slow/*.t))

test: deps
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory test-rust
	$(MAKE) --no-print-directory stage
	$(MAKE) --no-print-directory -k -j 2 test-c test-perl test-pve
	$(MAKE) --no-print-directory test-lab

test-all: export SMBGW_ALL = 1
test-all: test test-slow

# --- the guided tour -----------------------------------------------------------------------------------------------------

# The main job for real, in a private namespace: the machine itself is not changed.
run:
	.ci/deps run
	$(MAKE) --no-print-directory stage
	SMBGW_STAGE=$(STAGE) $(SUDO) $(KEEP) $(PERL) tests/lab/tour

# --- benchmarks ----------------------------------------------------------------------------------------------------------

bench: stage
	$(CARGO) bench --locked -p smbgw-core
	SMBGW_STAGE=$(STAGE) $(SUDO) $(KEEP) $(PERL) benches/table
