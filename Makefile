# Forno. `make help` lists what there is.

CC      = cc
PREFIX  = /usr/local
PYTHON  = /usr/bin/python3

# WERROR=-Werror is what CI adds.
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wconversion $(WERROR)
HARDENED = -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2
CFLAGS   = -O2 -g
LDFLAGS  = -pie -Wl,-z,relro,-z,now

PACKAGES   = sqlite3 libcjson libsodium
PKG_CFLAGS = $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS   = $(shell pkg-config --libs $(PACKAGES))
COMPILE    = $(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) $(PKG_CFLAGS) -MMD -MP

# The same by their names in Debian and Ubuntu.
DEBS_BUILD = gcc libc6-dev pkg-config libsqlite3-dev libcjson-dev libsodium-dev
DEBS_TEST  = $(DEBS_BUILD) libcmocka-dev python3-pytest curl
DEBS_CHECK = $(DEBS_BUILD) clang clang-format cppcheck

SOURCES   := $(wildcard *.c app/*.c)
UNITS     := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
FORMATTED  = $(wildcard *.[ch] app/*.[ch] tests/unit/*.[ch])

ASAN = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
TSAN = -O1 -g -fsanitize=thread -fno-omit-frame-pointer

all: server

help:
	@echo 'make          build ./server'
	@echo 'make run      install what is missing, build, serve http://localhost:8000'
	@echo 'make test     install what tests need, run all tests under ASan and UBSan'
	@echo 'make tsan     run all tests under ThreadSanitizer'
	@echo 'make check    formatting, static analysis, warnings of gcc and clang, layering'
	@echo 'make format   apply clang-format'
	@echo 'make install  PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo 'make clean    forget everything built'

# ---- what is missing ---------------------------------------------------------------------------------------------------

# $(call need,packages): install those that are not there. Touches nothing when all is there.
define need
	@if command -v dpkg-query >/dev/null; then \
	  missing=; for p in $(1); do \
	    [ "$$(dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || missing="$$missing $$p"; done; \
	  if [ -n "$$missing" ]; then \
	    echo "installing$$missing"; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	    $$sudo apt-get update -qq && \
	    $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	  fi; \
	else echo "This is not Debian or Ubuntu: if the build fails, install what they call $(1)"; fi
endef

need-build:
	$(call need,$(DEBS_BUILD))
need-test:
	$(call need,$(DEBS_TEST))
need-check:
	$(call need,$(DEBS_CHECK))

# ---- one set of objects per kind of build, so that they never mix --------------------------------------------------------

# $(1): its name under build/. $(2): flags to compile and link with. $(3): flags to link with.
# A unit test is linked with everything but main(), and may ask for more: /* LDFLAGS: … */ in its source.
define KIND
OBJECTS_$(1) = $$(SOURCES:%.c=build/$(1)/%.o)

build/$(1)/%.o: %.c Makefile
	@mkdir -p $$(@D)
	$$(COMPILE) $(2) -c -o $$@ $$<

build/$(1)/server: $$(OBJECTS_$(1))
	$$(CC) $(2) -o $$@ $$^ $(3) $$(PKG_LIBS) -pthread

$$(UNITS:%=build/$(1)/%): build/$(1)/%: build/$(1)/tests/unit/%.o $$(filter-out build/$(1)/server.o,$$(OBJECTS_$(1)))
	$$(CC) $(2) -o $$@ $$^ $(3) $$(shell sed -n 's|^/\* LDFLAGS: \(.*\) \*/$$$$|\1|p' tests/unit/$$*.c) $$(PKG_LIBS) -lcmocka -pthread

-include $$(OBJECTS_$(1):.o=.d) $$(UNITS:%=build/$(1)/tests/unit/%.d)
endef

$(eval $(call KIND,release,$$(CFLAGS) $$(HARDENED),$$(LDFLAGS)))
$(eval $(call KIND,asan,$$(ASAN),))
$(eval $(call KIND,tsan,$$(TSAN),))

.SECONDARY:

server: build/release/server
	cp $< $@

run: need-build
	@$(MAKE) --no-print-directory server
	@exec ./server

# ---- tests ----------------------------------------------------------------------------------------------------------------

# The unit tests, then the wire tests, against the same kind of build. PYTEST_ARGS='-k name' picks some.
define run-tests
	@set -e; for t in $(UNITS); do echo "== $$t"; build/$(1)/$$t; done
	FORNO_SERVER=$(CURDIR)/build/$(1)/server $(PYTHON) -m pytest -q -p no:cacheprovider tests $(PYTEST_ARGS)
endef

test: need-test
	@$(MAKE) --no-print-directory run-asan

run-asan: build/asan/server $(UNITS:%=build/asan/%)
	$(call run-tests,asan)

tsan: need-test
	@$(MAKE) --no-print-directory run-tsan

run-tsan: build/tsan/server $(UNITS:%=build/tsan/%)
	$(call run-tests,tsan)

# ---- checks -----------------------------------------------------------------------------------------------------------------

check: need-check
	clang-format --dry-run -Werror $(FORMATTED)
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  -D__linux__ -U_GNU_SOURCE --suppress=missingIncludeSystem *.c app/*.c
	@for cc in gcc clang; do echo "$$cc -Werror"; for f in $(SOURCES); do \
	  $(MAKE) -s --no-print-directory CC=$$cc WERROR=-Werror SOURCE=$$f compiles || exit 1; done; done
	@$(MAKE) -s --no-print-directory layering

compiles:
	$(COMPILE) $(CFLAGS) $(HARDENED) -MF /dev/null -c -o /dev/null $(SOURCE)

# Who may know whom: the table in docs/DESIGN.md.
# $(call forbid,files,pattern,rule)
define forbid
	@if grep -nE $(2) $(1); then echo "layering: $(3)"; exit 1; fi
endef

layering:
	$(call forbid,app/*,'sys/epoll.h|sys/socket.h|pthread|sqlite3|(epoll_|eventfd|timerfd|accept4|recv|send|read|write)\(',app/ knows no descriptor and no epoll and no mutex and no SQL)
	$(call forbid,$(filter-out db.c,$(wildcard *.[ch] app/*.[ch])),'sqlite3\.h',sqlite3.h is included by db.c alone)
	$(call forbid,$(filter-out loop.h,$(wildcard *.[ch] app/*.[ch])),'sys/epoll\.h',sys/epoll.h is included by loop.h alone)
	$(call forbid,loop.[ch],'#include "',loop knows nothing of ours)
	$(call forbid,http.[ch],'#include "(([^h]|h[^t]).*)"|sys/socket.h|unistd.h',http knows nothing of ours and no descriptors)
	$(call forbid,db.[ch],'#include "(http|server|conn|trace|app)',db knows the loop alone)
	$(call forbid,trace.[ch],'#include "(server|conn|db|app)',trace knows no request and no connection)
	@echo "layering: as it should be"

format: need-check
	clang-format -i $(FORMATTED)

# ---- the rest ------------------------------------------------------------------------------------------------------------------

install: server
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 server $(DESTDIR)$(PREFIX)/bin/forno

clean:
	rm -rf build server

.PHONY: all help run test tsan check compiles layering format install clean need-build need-test need-check run-asan run-tsan
