/* oven.h: whose pizza is ready next? poll's server looks at everybody anyway, so it sees; who no longer does needs a heap.
 *
 * oven[0] is the next; each is no later than the two below it, oven[2i + 1] and oven[2i + 2]. */
struct client;

static struct pizza {
    int64_t ready_ns;
    struct client *whose;
} * oven;
static size_t oven_len, oven_room;

/* False: no memory. */
static inline bool oven_put(int64_t ready_ns, struct client *whose)
{
    if (oven_len == oven_room) {
        size_t room = oven_room ? 2 * oven_room : 64;
        struct pizza *more = realloc(oven, room * sizeof *oven);

        if (!more) return false;
        oven = more;
        oven_room = room;
    }
    size_t i = oven_len++;
    for (; i > 0 && oven[(i - 1) / 2].ready_ns > ready_ns; i = (i - 1) / 2) oven[i] = oven[(i - 1) / 2];
    oven[i] = (struct pizza){ready_ns, whose};
    return true;
}

/* Whoever's is ready; NULL: nobody's. */
static inline struct client *oven_take(int64_t now_ns)
{
    if (oven_len == 0 || oven[0].ready_ns > now_ns) return NULL;

    struct client *whose = oven[0].whose;
    struct pizza last = oven[--oven_len];
    size_t i = 0, below;
    while ((below = 2 * i + 1) < oven_len) {
        if (below + 1 < oven_len && oven[below + 1].ready_ns < oven[below].ready_ns) below++;
        if (oven[below].ready_ns >= last.ready_ns) break;
        oven[i] = oven[below];
        i = below;
    }
    oven[i] = last;
    return whose;
}

/* How long until then, for poll() and its kin; -1: for ever. Rounded up: rounded down, the last millisecond would be a spin. */
static inline int oven_timeout_ms(void)
{
    int64_t now_ns = clock_ns();

    if (oven_len == 0) return -1;
    return oven[0].ready_ns <= now_ns ? 0 : (int)((oven[0].ready_ns - now_ns) / NS_PER_MS) + 1;
}
