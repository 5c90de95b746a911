/* 7-uring.c: nobody asks whether something is ready: each thing is ordered, and comes back done.
 *
 * New since 5-edge: io_uring. recv(), send() and the sleep are entries in a ring that the kernel reads; what became of
 * them, entries in another; one call hands over and waits. So the oven is the kernel's, and a full socket its concern: send()
 * comes back when there was room. The price: memory is the kernel's from order to completion, so a client cannot be forgotten
 * while anything of his is out. (Here always one thing.) Where the kernel forbids io_uring, it says so and ends with status 69. */
#include "step.h"

#include <liburing.h>
#include <sysexits.h>

#define ACCEPTS_MAX 64
#define RESULTS_MAX 32768 /* one for each thing that can be out, so that they never run over */

struct client {
    int fd;
    enum { READING, BAKING, ANSWERING } out; /* what the kernel is at */
    struct __kernel_timespec oven;
    size_t text_len, sent;
    struct request q;
    char text[ANSWER_MAX];
};

static struct io_uring ring;

static struct io_uring_sqe *new_order(void)
{
    struct io_uring_sqe *sqe;

    while (!(sqe = io_uring_get_sqe(&ring))) io_uring_submit(&ring); /* the ring is full: hand over what is in it */
    return sqe;
}

static void read_request(struct client *c)
{
    struct io_uring_sqe *sqe = new_order();

    c->out = READING;
    io_uring_prep_recv(sqe, c->fd, c->q.bytes + c->q.len, REQUEST_MAX - c->q.len, 0);
    io_uring_sqe_set_data(sqe, c);
}

static void bake(struct client *c)
{
    struct io_uring_sqe *sqe = new_order();

    c->out = BAKING;
    c->oven = (struct __kernel_timespec){.tv_sec = c->q.ms / 1000, .tv_nsec = c->q.ms % 1000 * NS_PER_MS};
    io_uring_prep_timeout(sqe, &c->oven, 0, 0);
    io_uring_sqe_set_data(sqe, c);
}

static void send_rest(struct client *c)
{
    struct io_uring_sqe *sqe = new_order();

    c->out = ANSWERING;
    io_uring_prep_send(sqe, c->fd, c->text + c->sent, c->text_len - c->sent, MSG_NOSIGNAL);
    io_uring_sqe_set_data(sqe, c);
}

/* The next thing to order for him. */
static void serve(struct client *c)
{
    if (!request_whole(&c->q)) read_request(c);
    else if (c->q.ms > 0 && c->out != BAKING) bake(c);
    else {
        c->text_len = answer_text(&c->q, c->text);
        c->sent = 0;
        send_rest(c);
    }
}

static void drop(struct client *c)
{
    close(c->fd);
    free(c);
}

/* What was ordered for him is done: so many bytes, or a negative errno. */
static void client_done(struct client *c, int result)
{
    if (c->out == BAKING) serve(c); /* -ETIME: that is how a sleep ends well */
    else if (result <= 0) drop(c);
    else if (c->out == READING) {
        c->q.len += (size_t)result;
        serve(c);
    } else if ((c->sent += (size_t)result) < c->text_len) send_rest(c);
    else {
        request_done(&c->q);
        serve(c);
    }
}

static void welcome(int fd)
{
    struct client *c = calloc(1, sizeof *c);

    if (c) {
        c->fd = fd;
        serve(c);
    } else turn_away(fd);
}

/* The door alone is asked the old way: is somebody there? Trap: an accept that is ordered takes its descriptor beforehand; when
 * there is none left, it fails at once, and ordering it again is a spin. */
static void ask_at_door(int listener)
{
    struct io_uring_sqe *sqe = new_order();

    io_uring_prep_poll_add(sqe, listener, POLLIN);
    io_uring_sqe_set_data(sqe, NULL);
}

static void door_ready(int listener)
{
    for (int i = 0, fd; i < ACCEPTS_MAX && (fd = accept_client(listener, 0)) >= 0; i++) welcome(fd);
    ask_at_door(listener);
}

int main(int argc, char **argv)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE, .cq_entries = RESULTS_MAX};
    struct io_uring_cqe *cqe;
    int rc = io_uring_queue_init_params(256, &ring, &params);

    if (rc == -EPERM || rc == -ENOSYS || rc == -EACCES) {
        fprintf(stderr, "the kernel forbids io_uring (%s): see kernel.io_uring_disabled, and who runs the container\n",
                strerror(-rc));
        return EX_UNAVAILABLE;
    }
    if ((errno = -rc) != 0) die("io_uring_queue_init_params");

    int listener = listen_on(argc, argv, SOCK_NONBLOCK);
    ask_at_door(listener);
    for (;;) {
        errno = -(rc = io_uring_submit_and_wait(&ring, 1)); /* the one wait, and most often the one call */
        if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY) die("io_uring_submit_and_wait");
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            struct client *c = io_uring_cqe_get_data(cqe);
            int result = cqe->res;

            io_uring_cqe_seen(&ring, cqe);
            if (c) client_done(c, result);
            else door_ready(listener);
        }
    }
}
