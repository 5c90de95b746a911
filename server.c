/* server.c: main(), the options, the listeners, and leaving.
 *
 * It owns the listening sockets and the signalfd. What happens after accept() is conn.c's business, what is asked and answered
 * is the application's. The subtle thing is what to do when descriptors run out: a listener that stays readable but cannot be
 * accepted from would spin, so it is disarmed until a connection closes. */
#include "app/start.h"

#include "db.h"
#include "reactor/conn.h"
#include "reactor/names.h"
#include "reactor/peers.h"
#include "reactor/still.h"
#include "reactor/upstream.h"
#include "text/grammar.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include <unistd.h>

#define ACCEPTS_PER_LAP 64 /* trap: accept fairness. A flood of newcomers must not starve those already here */
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)
#define LISTENERS_MAX 8
#define UNSENT_MAX (128 * 1024) /* bytes the kernel may hold for a client who does not read; by itself it takes megabytes */
#define FDS_RESERVED 160 /* both ends of 64 external calls, the database and its files, epoll, the listeners, standard streams */
#define TRIM_NS NS_PER_S /* malloc is asked to give memory back this often at most */

static struct {
    struct app_options app;
    const char *port, *audit_path; /* NULL: serve */
    int64_t drain_ms;
    size_t max_conns; /* 0: what the descriptor limit allows */
    enum log_style log_style;
    bool narrate, reuse_port;
    struct watch listeners[LISTENERS_MAX];
    size_t listeners_len;
    struct watch own_door;
    bool paused;
    struct timer resume;
    struct watch signals;
    struct timer drain_over;
} server = {
    .app = {.host = "127.0.0.1", .db_path = "forno.db", .opening_credit_cents = 100000, .bake_ms = -1, .stall_ms = 50},
    .port = "8000",
    .drain_ms = 10000,
    .log_style = LOG_TEXT,
    .own_door.fd = -1,
};

/* Start-up failure: one line that says what is wrong, and what to do about it. */
static _Noreturn __attribute__((format(printf, 1, 2))) void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("forno: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* ---- options --------------------------------------------------------------------------------------------------------------- */

enum {
    OPT_OPENING_CREDIT = 256,
    OPT_BAKE_MS,
    OPT_LOG,
    OPT_DRAIN,
    OPT_MAX_CONNS,
    OPT_MAX_CONNS_PER_IP,
    OPT_REUSE_PORT,
    OPT_AUDIT,
    OPT_GROUP,
    OPT_COURIER,
    OPT_LAB,
    OPT_NO_LAB,
    OPT_BLOCKING,
    OPT_STALL_MS,
    OPT_TRACE
};

static const struct argp_option option_table[] = {
    {"host", 'h', "ADDRESS", 0, "Listen on this address or name (127.0.0.1)", 0},
    {"port", 'p', "PORT", 0, "Listen on this port (8000); 0 picks a free one", 0},
    {"reuse-port", OPT_REUSE_PORT, NULL, 0, "Share the port with others that say so, too: the kernel deals out who connects", 0},
    {"db", 'd', "FILE|URL", 0,
     "The database: a file (forno.db), made if it is not there, or a PostgreSQL, postgresql://USER@HOST/DATABASE", 0},
    {"opening-credit", OPT_OPENING_CREDIT, "CENTS", 0, "What a new account holds (100000)", 0},
    {"bake-ms", OPT_BAKE_MS, "MS", 0, "Baking time of one pizza, whatever its flavor", 0},
    {"courier", OPT_COURIER, "URL", 0, "The external service that quotes deliveries (this server itself)", 0},
    {"lab", OPT_LAB, NULL, 0, "Open the lab (by default it is, if only this machine can reach us)", 0},
    {"no-lab", OPT_NO_LAB, NULL, 0, "Close the lab", 0},
    {"blocking", OPT_BLOCKING, NULL, 0, "Do every wait in place, as a synchronous server does: for comparison", 0},
    {"trace", OPT_TRACE, NULL, 0, "Tell every lap of the loop in words on stderr, to be read beside strace", 0},
    {"stall-ms", OPT_STALL_MS, "MS", 0, "Log laps of the loop that take longer than this (50); 0: never", 0},
    {"log", OPT_LOG, "STYLE", 0, "One line per answer on stderr: text, json or off (text)", 0},
    {"drain", OPT_DRAIN, "SECONDS", 0, "On SIGTERM, finish within this time (10)", 0},
    {"max-conns", OPT_MAX_CONNS, "N", 0, "Connections at a time; beyond it accepting pauses (what the descriptor limit allows)", 0},
    {"max-conns-per-ip", OPT_MAX_CONNS_PER_IP, "N", 0, "Connections of one client (IPv6: one /64) at a time (no limit)", 0},
    {"group-max", OPT_GROUP, "N", 0, "Writes committed together at most (as many as are waiting)", 0},
    {"audit", OPT_AUDIT, "FILE|URL", 0, "Prove the ledger of this database, print what was found, and exit 0 or 1", 0},
    {0},
};

static const char *reading_variable; /* the environment variable being read, NULL: the command line */

static int64_t number(struct argp_state *state, const char *text, const char *what, int64_t min, int64_t max)
{
    uint64_t n;

    if (reading_variable) what = reading_variable;
    if (!whole_number((struct slice){text, strlen(text)}, &n) || n < (uint64_t)min || n > (uint64_t)max)
        argp_error(state, "%s must be a whole number from %" PRId64 " to %" PRId64 ", not '%s'", what, min, max, text);
    return (int64_t)n;
}

static enum log_style log_style(struct argp_state *state, const char *text)
{
    if (strcmp(text, "text") == 0) return LOG_TEXT;
    if (strcmp(text, "json") == 0) return LOG_JSON;
    if (strcmp(text, "off") != 0)
        argp_error(state, "%s must be text, json or off, not '%s'", reading_variable ? reading_variable : "--log", text);
    return LOG_OFF;
}

static void read_environment(struct argp_state *state);

static error_t set_option(int key, char *arg, struct argp_state *state)
{
    struct app_options *o = &server.app;

    switch (key) {
    case 'h': o->host = arg; break;
    case 'p':
        number(state, arg, "--port", 0, 65535);
        server.port = arg;
        break;
    case 'd': o->db_path = arg; break;
    case OPT_OPENING_CREDIT: o->opening_credit_cents = number(state, arg, "--opening-credit", 0, INT64_C(1000000000000)); break;
    case OPT_BAKE_MS: o->bake_ms = number(state, arg, "--bake-ms", 0, 86400000); break;
    case OPT_LOG: server.log_style = log_style(state, arg); break;
    case OPT_DRAIN: server.drain_ms = 1000 * number(state, arg, "--drain", 0, 3600); break;
    case OPT_MAX_CONNS: server.max_conns = (size_t)number(state, arg, "--max-conns", 1, 10000000); break;
    case OPT_MAX_CONNS_PER_IP: peers_limit((unsigned)number(state, arg, "--max-conns-per-ip", 1, 10000000)); break;
    case OPT_REUSE_PORT: server.reuse_port = true; break;
    case OPT_COURIER: o->courier = arg; break;
    case OPT_LAB: o->lab = LAB_ON; break;
    case OPT_NO_LAB: o->lab = LAB_OFF; break;
    case OPT_BLOCKING: o->blocking = true; break;
    case OPT_TRACE: server.narrate = true; break;
    case OPT_STALL_MS: o->stall_ms = number(state, arg, "--stall-ms", 0, 3600000); break;
    case OPT_GROUP: o->group_max = (unsigned)number(state, arg, "--group-max", 1, 1000000); break;
    case OPT_AUDIT: server.audit_path = arg; break;
    case ARGP_KEY_INIT: read_environment(state); break;
    case ARGP_KEY_ARG: argp_error(state, "what is '%s'? There are only options here", arg); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Each option also reads an environment variable: --opening-credit is FORNO_OPENING_CREDIT. The command line wins. */
static void read_environment(struct argp_state *state)
{
    state->name = program_invocation_short_name; /* argp sets it only later */
    for (const struct argp_option *o = option_table; o->name; o++) {
        char name[64] = "FORNO_";

        for (size_t i = 0; o->name[i] && i + 7 < sizeof name; i++)
            name[6 + i] = o->name[i] == '-' ? '_' : (char)toupper((unsigned char)o->name[i]);
        char *value = getenv(name);
        reading_variable = name;
        if (!value && o->key == 'p') value = getenv(reading_variable = "PORT");
        if (!value || !*value || o->key == OPT_AUDIT) continue;
        if (o->arg || strcmp(value, "0") != 0) set_option(o->key, value, state); /* FORNO_LAB=1; 0 is as good as nothing */
    }
    reading_variable = NULL;
}

static void read_options(int argc, char **argv)
{
    static const struct argp argp = {
        .options = option_table,
        .parser = set_option,
        .doc = "A pizzeria and its bank: an epoll web service to read, run and curl.\v"
               "Each option also reads an environment variable, such as FORNO_PORT (or plain PORT) and FORNO_DB.\n"
               "When it listens it prints its address. Then:  curl http://127.0.0.1:8000/",
    };

    argp_program_version = "forno " FORNO_VERSION;
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
}

/* ---- listening ---------------------------------------------------------------------------------------------------------------- */

static void listeners_arm(void)
{
    for (size_t i = 0; i < server.listeners_len; i++) watch_arm(&server.listeners[i], server.paused ? 0 : EPOLLIN);
}

/* Trap: the EMFILE accept spin. The newcomer stays in the backlog and keeps the listener readable; so stop listening, and look
 * again when a connection has closed, or after a while, since descriptors may be freed by others. */
static void accept_pause(void)
{
    if (!timer_start(&server.resume, loop_now_ns() + ACCEPT_PAUSE_NS)) return; /* no memory: better to spin than to go deaf */
    server.paused = true;
    counters.accept_pauses++;
    listeners_arm();
}

static void accept_resume(void)
{
    if (!server.paused || counters.connections >= server.max_conns) return;
    server.paused = false;
    timer_cancel(&server.resume);
    listeners_arm();
}

static void accept_look_again(struct timer *t)
{
    watch_arm(&server.own_door, EPOLLIN);
    if (counters.connections >= server.max_conns && !conns_make_room()) timer_start(t, loop_now_ns() + ACCEPT_PAUSE_NS);
    accept_resume();
}

static void listener_ready(struct watch *w, uint32_t events)
{
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_LAP; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;

        if (counters.connections >= server.max_conns && !conns_make_room()) {
            accept_pause();
            return;
        }
        int fd = accept4(w->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            conn_open(fd, &peer);
            continue;
        }
        switch (errno) {
        case EAGAIN: return;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            if (conns_make_room()) break;
            accept_pause();
            return;
        default: /* trap: ECONNABORTED and its kin (accept(2)): that client has left, the next one may be fine */ break;
        }
    }
}

/* Accepted sockets inherit these (Linux), so they cost no system call each. */
static void listener_tune(int fd)
{
    int on = 1, unsent = UNSENT_MAX;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}

static int listen_on(const struct addrinfo *a, bool only_one, const struct sockaddr_storage *first)
{
    int on = 1, fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    struct sockaddr_storage address = {0};

    if (fd < 0) return -1;
    memcpy(&address, a->ai_addr, a->ai_addrlen);
    /* --port 0 and several addresses: the others take the port that the first was given. The port is at the same place in
     * both families. */
    if (first) ((struct sockaddr_in *)&address)->sin_port = ((const struct sockaddr_in *)first)->sin_port;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (server.reuse_port) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    listener_tune(fd);
    if (a->ai_family == AF_INET6 && !only_one) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Our own calls come in by a door of their own: it stays open when all places are taken, and when we are leaving, so that what has been
 * begun can be finished. Whoever else finds it is shown out. */
static void own_door_ready(struct watch *w, uint32_t events)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    int fd = accept4(w->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)events;
    if (fd >= 0 && upstream_is_calling(&peer)) conn_open(fd, NULL);
    else if (fd >= 0) close(fd);
    /* There is none left even of the reserve: the same trap, and the same way out. */
    else if (errno != EAGAIN && timer_start(&server.resume, loop_now_ns() + ACCEPT_PAUSE_NS)) watch_arm(w, 0);
}

/* Its address, as a URL. */
static void open_own_door(char *url, size_t size)
{
    static const struct watch_kind kind = {.name = "own door", .ready = own_door_ready};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0) listener_tune(fd);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0 || watch_open(&server.own_door, fd, EPOLLIN, &kind) != 0)
        die("cannot listen on 127.0.0.1 for our own calls: %s", strerror(errno));
    struct sockaddr_storage home = {0};
    memcpy(&home, &address, sizeof address);
    names_home(&home);
    snprintf(url, size, "http://127.0.0.1:%u", ntohs(address.sin_port));
}

static void listener_add(int fd)
{
    static const struct watch_kind kind = {.name = "listener", .ready = listener_ready};

    if (watch_open(&server.listeners[server.listeners_len], fd, EPOLLIN, &kind) != 0) die("epoll: %s", strerror(errno));
    server.listeners_len++;
}

/* Blocking getaddrinfo is fine here: nobody is being served yet. */
static void open_listeners(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
    struct sockaddr_storage first;
    socklen_t len = sizeof first;
    const struct app_options *o = &server.app;
    int rc = getaddrinfo(o->host, server.port, &hints, &list);

    if (rc != 0) die("cannot find the address %s: %s", o->host, gai_strerror(rc));
    for (const struct addrinfo *a = list; a && server.listeners_len < LISTENERS_MAX; a = a->ai_next) {
        bool is_first = server.listeners_len == 0;
        int fd = listen_on(a, !list->ai_next, is_first ? NULL : &first);

        if (fd < 0 && !is_first) continue; /* "localhost" where IPv6 is switched off: one address will do */
        if (fd < 0 && errno == EADDRINUSE)
            die("port %s on %s is in use: choose another with --port, or let --port 0 find one", server.port, o->host);
        if (fd < 0) die("cannot listen on %s, port %s: %s", o->host, server.port, strerror(errno));
        if (is_first && getsockname(fd, (struct sockaddr *)&first, &len) != 0) die("getsockname: %s", strerror(errno));
        listener_add(fd);
    }
    freeaddrinfo(list);
}

/* Trap: a passed socket that does not listen is always ready (EPOLLHUP) and never accepted from: 100 % CPU. */
static bool is_stream_listener(int fd)
{
    int type, listens;
    socklen_t len = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
}

/* Socket activation, sd_listen_fds(3): whoever started us listens already, and goes on listening while we are restarted, so
 * no client is ever refused. The sockets are descriptors 3 and up. */
static bool take_listeners(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");

    if (!pid || !count || atoi(pid) != getpid()) return false;
    if (atoi(count) > LISTENERS_MAX) die("LISTEN_FDS is %s: pass %d sockets at most", count, LISTENERS_MAX);
    for (int fd = 3; fd < 3 + atoi(count); fd++) {
        if (!is_stream_listener(fd))
            die("descriptor %d, which LISTEN_FDS=%s speaks of, is no stream socket that listens: pass one (ListenStream= in a "
                ".socket unit), or unset LISTEN_FDS",
                fd, count);
        if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            die("descriptor %d: %s", fd, strerror(errno));
        listener_tune(fd);
        listener_add(fd);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    return server.listeners_len > 0;
}

static bool is_loopback(const struct sockaddr_storage *a)
{
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)a)->sin6_addr;

    if (a->ss_family == AF_INET) return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(v6);
}

/* It is known now where we listen: tell the application, then the user. `name`: what the user calls our host, NULL: nothing. */
static void announce(const char *name)
{
    char host[NI_MAXHOST], port[NI_MAXSERV], own_door[64] = "", error[512];
    bool loopback = true;

    for (size_t i = server.listeners_len; i-- > 0;) { /* the first one last: it is the one to tell of */
        struct sockaddr_storage address;
        socklen_t len = sizeof address;

        if (getsockname(server.listeners[i].fd, (struct sockaddr *)&address, &len) != 0 ||
            getnameinfo((struct sockaddr *)&address, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) !=
                0)
            die("cannot tell the address we listen on");
        loopback = loopback && is_loopback(&address);
        names_home(&address);
    }
    if (!server.app.courier) open_own_door(own_door, sizeof own_door);
    if (!app_start(&server.app, own_door, loopback, error, sizeof error)) die("%s", error);
    if (!name) name = host;
    printf(strchr(name, ':') ? "listening on http://[%s]:%s\n" : "listening on http://%s:%s\n", name, port);
    fflush(stdout);
}

/* As many descriptors as we may have; of these, connections get all but a reserve. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) die("getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) getrlimit(RLIMIT_NOFILE, &limit);
    size_t allowed = limit.rlim_cur > 2 * FDS_RESERVED ? (size_t)limit.rlim_cur - FDS_RESERVED : (size_t)limit.rlim_cur / 2;
    if (!server.max_conns || server.max_conns > allowed) server.max_conns = allowed;
}

/* Tell a service manager how we are, sd_notify(3): one datagram to the socket named in NOTIFY_SOCKET, if there is one. */
static void notify_manager(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;

    if (len < 2 || len >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') address.sun_path[0] = '\0'; /* the abstract namespace, unix(7) */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    /* A manager that does not listen is its own problem. */
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
        trace_note("the service manager cannot be told \"%s\": %s", state, strerror(errno));
    close(fd);
}

/* ---- leaving ------------------------------------------------------------------------------------------------------------------- */

static void drain_is_over(struct timer *t)
{
    (void)t;
    trace_note("leaving with %" PRIu64 " connections and %" PRIu64 " requests unfinished", counters.connections, counters.requests);
    loop_stop();
}

static void drain(int signal)
{
    trace_note("%s: finishing what is out, then leaving; a second signal leaves at once", strsignal(signal));
    notify_manager("STOPPING=1");
    for (size_t i = 0; i < server.listeners_len; i++) watch_close(&server.listeners[i]);
    server.listeners_len = 0;
    timer_start(&server.drain_over, loop_now_ns() + server.drain_ms * NS_PER_MS);
    conns_drain();
}

/* Trap: work in a signal handler. A signal is a readable descriptor like everything else (signalfd(2)). */
static void signals_ready(struct watch *w, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    if (read(w->fd, &info, sizeof info) != sizeof info) return;
    if (server_draining()) {
        trace_flush();
        _exit(1); /* what was acknowledged is on the disk */
    }
    drain((int)info.ssi_signo);
}

static void open_signals(void)
{
    static const struct watch_kind kind = {.name = "signalfd", .ready = signals_ready};
    sigset_t set;

    signal(SIGPIPE, SIG_IGN); /* a vanished reader is EPIPE, not death */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow: EFBIG */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread starts: they inherit it */
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0 || watch_open(&server.signals, fd, EPOLLIN, &kind) != 0) die("signalfd: %s", strerror(errno));
    still_heed(fd);
}

/* After a flood malloc keeps what it was given, for the next one. Once most clients are gone, the kernel may have it back. */
static void give_memory_back(void)
{
    static uint64_t most;
    static int64_t next_ns;

    if (counters.connections > most) most = counters.connections;
    if (most < 64 || counters.connections > most / 8 || loop_now_ns() < next_ns) return;
    malloc_trim(0);
    most = counters.connections;
    next_ns = loop_now_ns() + TRIM_NS;
}

static void before_sleep(void)
{
    trace_flush();
    give_memory_back();
    /* Trap: the exit that drops work. Requests outlive their clients, so both must be gone; and others must have been told what was done. */
    if (server_draining() && counters.connections == 0 && counters.requests == 0 && db_queue_depth() == 0) loop_stop();
}

/* Trap: a standard stream that is closed, whose number becomes somebody's socket: what is meant for the log would go there. */
static void fill_standard_streams(void)
{
    int fd;

    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    fill_standard_streams();
    if (server.audit_path) return db_audit(server.audit_path, stdout);
    raise_descriptor_limit();
    if (loop_open() != 0) die("cannot make an event loop: %s", strerror(errno));
    open_signals();
    trace_open(server.log_style, server.app.stall_ms, server.narrate);
    server.resume.fired = accept_look_again;
    server.drain_over.fired = drain_is_over;
    conns_serve(app_route, accept_resume);
    loop_before_sleep(before_sleep);
    bool activated = take_listeners();
    if (!activated) open_listeners();
    /* After the listeners, so that a port in use leaves no database behind. Who comes meanwhile waits in the backlog. */
    announce(activated ? NULL : server.app.host);
    notify_manager("READY=1");

    int rc = loop_run();
    if (rc != 0) trace_note("epoll failed: %s", strerror(errno));
    upstream_close();
    db_close(); /* it finishes what it was given */
    trace_flush();
    watch_close(&server.own_door);
    watch_close(&server.signals);
    loop_close();
    return rc == 0 ? 0 : 1;
}
