/* fuzz_upstream.c: what may come from the courier, to the outbound client: upstream.c as it is, over sockets whose other end says
 * what the input says.
 *
 * An input is one line of sizes, then what the courier sends. Each character is the size of a piece ('1' is one byte, '9' nine, 'z'
 * 74, and more of each when the whole is long), round and round; when all is sent the courier closes, or, if the first is a capital, stays silent. The same is sent whole, in
 * those pieces, and in small ones: it must come to the same. So a seed reads as: "13", then a response. */
#include "reactor/loop.h"
#include "reactor/upstream.h"
#include "world.h"

#include <ctype.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    int fd; /* the courier's end; -1: none */
    const uint8_t *bytes, *sizes;
    size_t len, at, sizes_len, piece;
    bool stays, heard;
    unsigned calls;
} courier = {.fd = -1};

bool world_connected(int fd)
{
    must(courier.fd < 0 && ++courier.calls == 1); /* a fresh connection that breaks is not tried again */
    courier.fd = fd;
    return true;
}

static void hang_up(void)
{
    close(courier.fd);
    courier.fd = -1;
}

static bool send_piece(void)
{
    size_t left = courier.len - courier.at, n = left;

    if (courier.sizes_len)
        n = (size_t)(uint8_t)(courier.sizes[courier.piece++ % courier.sizes_len] - '0') * (1 + courier.len / 256);
    if (!n) n = 1;
    if (n > left) n = left;
    ssize_t sent = send(courier.fd, courier.bytes + courier.at, n, MSG_NOSIGNAL);
    if (sent < 0) hang_up(); /* the client has heard enough */
    else courier.at += (size_t)sent;
    return true;
}

bool world_acts(void)
{
    char request[512];

    if (courier.fd < 0) return false;
    if (!courier.heard) {
        ssize_t n = recv(courier.fd, request, sizeof request, 0);

        if (n < 0) return false;
        must(n > 20 && memcmp(request, "GET /quote HTTP/1.1\r\n", 21) == 0 && memcmp(request + n - 4, "\r\n\r\n", 4) == 0);
        return courier.heard = true;
    }
    if (courier.at < courier.len) return send_piece();
    if (courier.stays && recv(courier.fd, request, 1, 0) < 0) return false;
    hang_up();
    return true;
}

static unsigned ended;

static void call_ended(struct op *op)
{
    (void)op;
    ended++;
}

static struct upstream_call call(const uint8_t *sizes, size_t sizes_len)
{
    struct upstream_call u = {.target = "/quote"};
    struct op op = {.done = call_ended};

    courier.sizes = sizes;
    courier.sizes_len = sizes_len;
    courier.at = courier.piece = courier.calls = ended = 0;
    courier.heard = false;
    upstream_get(&u, &op);
    must(ended == 0); /* never inside the call that started it */
    world_run();
    must(ended == 1 && courier.calls == 1);
    must(u.rc <= UPSTREAM_LIMIT && u.rc != UPSTREAM_REFUSED && u.rc != UPSTREAM_LIMIT);
    if (u.rc == UPSTREAM_OK) {
        must(u.status == 101 || (u.status >= 200 && u.status <= 999)); /* any other 1xx is not yet the answer */
        must(u.body_len <= UPSTREAM_BODY_MAX && u.body[u.body_len] == '\0');
    }
    if (!courier.stays) must(u.rc != UPSTREAM_TIMED_OUT);
    if (courier.fd >= 0) hang_up();
    world_run(); /* so that an idle connection notices */
    must(loop_watches() == 2 && loop_timers() == 0);
    return u;
}

static void must_be_alike(const struct upstream_call *a, const struct upstream_call *b)
{
    must(a->rc == b->rc);
    if (a->rc != UPSTREAM_OK) return;
    must(a->status == b->status && a->body_len == b->body_len && memcmp(a->body, b->body, a->body_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
    char error[256];

    if (!newline || newline == data) return -1;
    if (!started) started = loop_open() == 0 && upstream_open("http://127.0.0.1:1", false, error, sizeof error);
    must(started);
    courier.bytes = newline + 1;
    courier.len = size - (size_t)(courier.bytes - data);
    courier.stays = isupper(data[0]);
    struct upstream_call whole = call(NULL, 0), cut = call(data, (size_t)(newline - data)), small = call((const uint8_t *)"1", 1);
    must_be_alike(&whole, &cut);
    must_be_alike(&whole, &small);
    return 0;
}
