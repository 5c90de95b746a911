/* coroutine.c: the same handler as a coroutine with a stack of its own: nothing is written down, since nothing is left.
 * await() swaps the stack for the loop's, and comes back when the time has come. */
#include "kitchen.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE 65536

struct guest {
    const char *who;
    int pizzas;
    char *stack;
    ucontext_t context; /* where he stopped: the registers */
};

static ucontext_t loop;
static struct guest *running;

static void resume(void *of)
{
    running = of;
    swapcontext(&loop, &running->context);
}

static void await(int ms)
{
    takes(ms, resume, running);
    swapcontext(&running->context, &loop);
}

static void post_order(void)
{
    const char *who = running->who;
    int pizzas = running->pizzas, price = 35 * pizzas;

    tell(who, "orders");
    await(10); /* the database */
    tell(who, price > 100 ? "pays a lot" : "pays");
    await(300 * pizzas); /* the oven */
    tell(who, "eats");
}

static void begin(struct guest *g)
{
    g->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->stack == MAP_FAILED) abort();
    getcontext(&g->context);
    g->context.uc_stack = (stack_t){.ss_sp = g->stack, .ss_size = STACK_SIZE};
    g->context.uc_link = &loop;
    makecontext(&g->context, post_order, 0);
    resume(g);
}

/* Of its stack, what has been touched: the kernel gives memory by the page. */
static size_t touched(const struct guest *g)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0;
    unsigned char in_memory[STACK_SIZE / 4096];

    if (mincore(g->stack, STACK_SIZE, in_memory) != 0) abort();
    for (size_t i = 0; i < STACK_SIZE / page; i++) n += in_memory[i] & 1;
    return n * page;
}

int main(void)
{
    struct guest ana = {.who = "Ana", .pizzas = 10}, bia = {.who = "Bia", .pizzas = 1};

    begin(&ana);
    begin(&bia);
    run_loop();
    kept(sizeof(struct guest) + touched(&bia));
    return 0;
}
