/* fuzz_server.c: the whole server in this process, but for main(): a client's bytes in, answers out, as they stand on the wire.
 *
 * Loop, connections, parser, router, handlers, the outbound client and the database are real, SQLite and its file too. The input says
 * what the client sends and how he behaves, which allocation fails, what SQLite runs into, and what the courier is like. An input is
 * one line of choices (any characters; none left: always the first choice), then the client's bytes, any number of requests.
 * Asserted: what comes back is HTTP, one answer to each request, of a kind that API.md allows; and when all is over nothing is left:
 * no descriptor, no timer, no request. Whoever adds an endpoint or an operation of the database adds nothing here. */
#include "app/app.h"
#include "app/start.h"
#include "reactor/conn.h"
#include "reactor/loop.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE 40     /* leaps in time that a client waits for, then he leaves: what never ends by itself must end then */
#define REQUESTS_MAX 64 /* more in an input are read, but not remembered */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the database: what it runs into, and how it is put back ------------------------------------------------------------------------ */

static const int troubles[] = {SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR, SQLITE_CORRUPT};
static unsigned steps, trouble_at, trouble_every; /* 0: never; 0: only once */
static int trouble_code, faked;
static bool in_trouble; /* it has been, with this input */

int __real_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s)
{
    /* Whatever becomes of the file: ROLLBACK ends the transaction. */
    faked = ++steps == trouble_at && !strstr(sqlite3_sql(s), "\nROLLBACK;") ? trouble_code : 0;
    if (steps == trouble_at) trouble_at += trouble_every;
    if (!faked) return __real_sqlite3_step(s);
    in_trouble = true;
    errno = ENOSPC;
    return faked;
}

int __real_sqlite3_errcode(sqlite3 *handle);
int __wrap_sqlite3_errcode(sqlite3 *handle);
int __wrap_sqlite3_errcode(sqlite3 *handle)
{
    return faked ? faked : __real_sqlite3_errcode(handle);
}

/* Queries run in this thread, so that an input does the same every time; all other waits are the loop's. */
int __real_db_open(const struct db_options *options, char *error, size_t error_size);
int __wrap_db_open(const struct db_options *options, char *error, size_t error_size);
int __wrap_db_open(const struct db_options *options, char *error, size_t error_size)
{
    struct db_options in_place = *options;

    in_place.blocking = true;
    return __real_db_open(&in_place, error, error_size);
}

static char path[64];
static sqlite3 *side, *original; /* the file again; how it was at the beginning */

static void copy(sqlite3 *to, sqlite3 *from)
{
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");

    must(b && sqlite3_backup_step(b, -1) == SQLITE_DONE && sqlite3_backup_finish(b) == SQLITE_OK);
}

static int version(void)
{
    static sqlite3_stmt *s;

    if (!s) must(sqlite3_prepare_v2(side, "PRAGMA data_version", -1, &s, NULL) == SQLITE_OK);
    must(__real_sqlite3_step(s) == SQLITE_ROW);
    int n = sqlite3_column_int(s, 0);
    sqlite3_reset(s);
    return n;
}

static void forget_file(void)
{
    static const char *const endings[] = {"", "-wal", "-shm"};
    char name[80];

    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        unlink(name);
    }
}

/* The first token is 43 times 'A', the second begins with a 'B', and so on. */
static unsigned char tokens_made;

void __wrap_randombytes_buf(void *const bytes, const size_t n);
void __wrap_randombytes_buf(void *const bytes, const size_t n)
{
    memset(bytes, 0, n);
    *(unsigned char *)bytes = (unsigned char)(tokens_made++ << 2);
}

/* ---- the courier ---------------------------------------------------------------------------------------------------------------------- */

#define COURIERS 256           /* both ends of 64 calls, and what else is open */
static int couriers[COURIERS]; /* descriptors; 0: none */

bool world_connected(int fd)
{
    if (choose(8) == 7) return false;
    must(fd < COURIERS);
    return couriers[fd] = fd;
}

static void courier_answers(int fd)
{
    static const char *const bodies[] = {
        "{\"price_cents\":550,\"eta_minutes\":20}\n", "",      "[]", "{\"price_cents\":1e99,\"eta_minutes\":-1}",
        "{\"price_cents\":0.5,\"eta_minutes\":\"\"}", "\"\xff"};
    static const char *const heads[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
        "HTTP/1.1 500 No\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
        "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2000 %zu\r\n\r\n%s",
    };
    const char *body = bodies[choose(6)];
    char answer[256];
    int n = snprintf(answer, sizeof answer, heads[choose(4)], strlen(body), body);

    if (choose(8) < 7) must(send(fd, answer, (size_t)n, MSG_NOSIGNAL) == n || errno == EPIPE);
}

static bool courier_acts(void)
{
    char request[1024];

    for (int fd = 0; fd < COURIERS; fd++) {
        if (!couriers[fd]) continue;
        ssize_t n = recv(fd, request, sizeof request, 0);

        if (n < 0 && errno == EAGAIN) continue;
        if (n > 0) courier_answers(fd);
        if (n > 0 && choose(8) < 7) return true;
        close(fd);
        couriers[fd] = 0;
        return true;
    }
    return false;
}

/* ---- the client: what he sends ------------------------------------------------------------------------------------------------------- */

static struct client {
    int fd; /* -1: gone */
    const char *bytes;
    size_t left;
    bool sent_all;
    unsigned patience;
    bool left_early; /* he has not waited for the end */

    /* what he has asked, read by our own parser before the server has it */
    struct http_message asked;
    bool asked_dead; /* what follows cannot be understood */
    struct {
        bool head;
    } requests[REQUESTS_MAX];
    size_t requests_len, answers_len;

    struct http_message answer;
    bool last; /* the last answer has said that it is the last */
} client;

static void remember_request(void)
{
    if (client.requests_len < REQUESTS_MAX) client.requests[client.requests_len].head = client.asked.method == HTTP_HEAD;
    client.requests_len++;
}

static void remember(const char *bytes, size_t n)
{
    while (n && !client.asked_dead) {
        size_t used = http_feed(&client.asked, bytes, n);

        bytes += used;
        n -= used;
        if (client.asked.phase < HTTP_DONE) continue;
        client.asked_dead = client.asked.phase == HTTP_FAILED;
        remember_request();
        if (!client.asked_dead) http_begin(&client.asked, HTTP_REQUEST);
    }
}

static void client_leaves(void)
{
    close(client.fd);
    client.fd = -1;
}

static bool client_sends(void)
{
    unsigned how = choose(8);
    size_t n = how ? 10 * how * how : client.left;

    if (n > client.left) n = client.left;
    ssize_t sent = send(client.fd, client.bytes, n, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return false;
    if (sent < 0) { /* the server has hung up, and we shall read why */
        client.left = 0;
        return true;
    }
    remember(client.bytes, (size_t)sent);
    client.bytes += sent;
    client.left -= (size_t)sent;
    return true;
}

/* ---- the client: what he gets, held to API.md ---------------------------------------------------------------------------------------- */

static bool is_utf8(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + n;

    while (p < end) {
        int more = *p < 0x80 ? 0 : *p < 0xc2 ? -1 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : *p < 0xf5 ? 3 : -1;

        if (more < 0 || more >= end - p || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
            (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
            return false;
        for (p++; more > 0; more--, p++) {
            if ((*p & 0xc0) != 0x80) return false;
        }
    }
    return true;
}

static bool holds(struct slice s, const char *text)
{
    return s.at && memmem(s.at, s.len, text, strlen(text));
}

static void check_json(const struct http_message *m, struct slice text)
{
    cJSON *json = cJSON_ParseWithLength(text.at, text.len);

    must(text.len && text.at[text.len - 1] == '\n' && is_utf8(text.at, text.len));
    must(json && (cJSON_IsObject(json) || cJSON_IsArray(json)));
    if (m->status >= 400) {
        const cJSON *type = cJSON_GetObjectItem(json, "type"), *status = cJSON_GetObjectItem(json, "status");

        must(cJSON_IsString(type) && strncmp(type->valuestring, "/problems/", 10) == 0);
        must(cJSON_IsNumber(status) && status->valueint == m->status);
        must(cJSON_IsString(cJSON_GetObjectItem(json, "title")));
        must(cJSON_IsString(cJSON_GetObjectItem(json, "detail")) && cJSON_GetObjectItem(json, "detail")->valuestring[0]);
    }
    cJSON_Delete(json);
}

static void check_answer(const struct http_message *m)
{
    struct slice type = http_field(m, "content-type"), body = http_body(m);

    must(m->status >= 200 && strcmp(http_reason(m->status), "Unknown") != 0);
    must(http_field(m, "date").at);
    if (m->status == 401) must(holds(http_field(m, "www-authenticate"), "Bearer realm=\"forno\""));
    if (m->status == 405) must(http_field(m, "allow").at);
    if (m->status == 503) must(http_field(m, "retry-after").at);
    must((m->status == 204 || m->status == 304) == !type.at);
    if (m->status >= 400) must(slice_is(type, "application/problem+json"));
    if (holds(type, "json") && !m->no_body) check_json(m, body);
    must(is_utf8(body.at, body.len));
}

static void answer_begin(void)
{
    size_t i = client.answers_len;

    http_begin(&client.answer, HTTP_RESPONSE);
    client.answer.body_limit = 16 << 20;
    /* The server may answer what has not been sent to its end: then what it makes of that counts. */
    struct http_message asked = client.asked;
    if (asked.phase != HTTP_FAILED) http_give_up(&asked, 408, "");
    client.answer.no_body = i < client.requests_len ? i < REQUESTS_MAX && client.requests[i].head : asked.method == HTTP_HEAD;
}

static void answer_ends(void)
{
    if (client.answer.status >= 200) { /* 100 Continue is none */
        check_answer(&client.answer);
        must(!client.last && client.answers_len <= client.requests_len);
        client.answers_len++;
        client.last = !client.answer.keep_alive;
    }
    http_begin(&client.answer, HTTP_RESPONSE); /* the rest of answer_begin() when its first byte comes */
}

static void client_reads(const char *bytes, size_t n)
{
    while (n) {
        if (client.answer.phase == HTTP_FRESH) answer_begin();
        size_t used = http_feed(&client.answer, bytes, n);

        bytes += used;
        n -= used;
        if (client.answer.phase == HTTP_FAILED) { /* a server without memory for a first byte cannot know that it began HEAD */
            must(memory_has_failed());
            client.last = true;
            http_begin(&client.answer, HTTP_RESPONSE);
            return;
        }
        if (client.answer.phase == HTTP_DONE) answer_ends();
    }
}

/* The server has closed: what has come must be whole, and complete. */
static void client_is_left(void)
{
    bool fresh = client.answer.phase == HTTP_FRESH;

    if (!memory_has_failed()) {
        must(fresh || http_end_of_input(&client.answer));
        if (!fresh) answer_ends();
        if (client.sent_all && !client.last) must(client.answers_len >= client.requests_len || client.requests_len > REQUESTS_MAX);
    }
    client_leaves();
}

static bool client_acts(void)
{
    static char bytes[1 << 16];
    ssize_t n;

    if (client.fd < 0) return false;
    n = recv(client.fd, bytes, sizeof bytes, 0);
    if (n > 0) client_reads(bytes, (size_t)n);
    else if (n == 0) client_is_left();
    else if (errno != EAGAIN) client_leaves(); /* a reset: he has sent what nobody wanted to read */
    if (n >= 0 || client.fd < 0) return true;
    if (client.left) return client_sends() || client.patience-- == 0;
    if (!client.sent_all) {
        client.sent_all = true;
        unsigned how = choose(8);
        if (how == 7) client_leaves();
        else if (how < 4) shutdown(client.fd, SHUT_WR); /* half-closed: he still gets his answers */
        return true;
    }
    if (client.patience-- > 0) return false; /* let time pass */
    client_leaves();
    return true;
}

/* Nothing is called in place: there is one thread here, which would wait for itself. */
bool __wrap_upstream_leads_home(void);
bool __wrap_upstream_leads_home(void)
{
    return true;
}

bool world_acts(void)
{
    return courier_acts() || client_acts();
}

/* ---- one client ------------------------------------------------------------------------------------------------------------------------ */

static void serve(const char *bytes, size_t n)
{
    struct sockaddr_in somewhere = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage address = {0};
    int ends[2];

    memcpy(&address, &somewhere, sizeof somewhere);
    world_pair(ends);
    client.fd = ends[1];
    client.bytes = bytes;
    client.left = n;
    client.patience = PATIENCE;
    http_begin(&client.asked, HTTP_REQUEST);
    http_begin(&client.answer, HTTP_RESPONSE);
    conn_open(ends[0], &address);
    world_run();
    if (client.fd >= 0) client_leaves(); /* it was never served: no memory for it */
    world_run();
    for (int fd = 0; fd < COURIERS; fd++) {
        if (couriers[fd]) close(fd);
        couriers[fd] = 0;
    }
    http_free(&client.asked);
    http_free(&client.answer);
    client = (struct client){.fd = -1};
}

/* Two accounts, and an order of the first; his token is known. */
static void furnish(void)
{
#define OPEN "POST /accounts HTTP/1.1\r\nHost: f\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"name\":\"Ana\"}"
    static const char guests[] =
        OPEN OPEN "POST /orders HTTP/1.1\r\nHost: f\r\nAuthorization: Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n"
                  "Content-Type: application/json\r\nContent-Length: 34\r\n\r\n{\"flavor\":\"margherita\",\"pizzas\":1}";

    serve(guests, sizeof guests - 1);
    must(sqlite3_open(path, &side) == SQLITE_OK && sqlite3_open(":memory:", &original) == SQLITE_OK);
    copy(original, side);
}

static void start(void)
{
    static struct app_options options = {.db_path = path, .opening_credit_cents = 1000000, .bake_ms = -1, .host = "127.0.0.1"};
    char error[256];

    snprintf(path, sizeof path, "%s/forno-fuzz-%d.db", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    atexit(forget_file);
    must(loop_open() == 0);
    conns_serve(app_route, NULL);
    trace_open(LOG_OFF, 0, false);
    must(app_start(&options, "http://127.0.0.1:1", true, error, sizeof error));
    furnish();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char ready[] = "GET /readyz HTTP/1.1\r\nHost: f\r\n\r\n";
    static bool started;
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;

    if (!newline) return -1;
    if (!started) start();
    started = true;
    choices_are(data, newline);
    memory_fails_at(choose(4) == 3 ? 1 + 8 * choose(74) + choose(8) : 0);
    trouble_at = choose(4) == 3 ? 1 + choose(74) : 0;
    trouble_code = troubles[choose(4)];
    trouble_every = choose(16);
    steps = 0;
    in_trouble = false;
    tokens_made = 2;
    int before = version();

    serve((const char *)newline + 1, size - (size_t)(newline + 1 - data));
    memory_fails_at(0);
    trouble_at = 0;
    must(counters.connections == 0 && counters.requests == 0 && orders_baking() == 0);
    must(loop_watches() == 2 && loop_timers() == 0);
    if (version() != before) copy(side, original);
    if (in_trouble) serve(ready, sizeof ready - 1); /* the next input finds the database open */
    return 0;
}
