/* switch.c: the same handler as one function again. It is entered anew after each wait, and a switch leads to where it was:
 * this is what compilers make of async functions. AWAIT() is a trick of C, a case label in the middle of whatever stands
 * around it. */
#include "kitchen.h"

struct order {
    const char *who;
    int pizzas, price;
    int resume; /* where to go on */
};

#define BEGIN(o)           \
    switch ((o)->resume) { \
    case 0:
#define AWAIT(o, ms)              \
    (o)->resume = __LINE__;       \
    takes((ms), post_order, (o)); \
    return;                       \
    case __LINE__:
#define END }

static void post_order(void *of)
{
    struct order *o = of; /* a local variable: it is made anew at each entry, so nothing may be kept in one */

    BEGIN(o);
    o->price = 35 * o->pizzas;
    tell(o->who, "orders");
    AWAIT(o, 10); /* the database */
    tell(o->who, o->price > 100 ? "pays a lot" : "pays");
    AWAIT(o, 300 * o->pizzas); /* the oven */
    tell(o->who, "eats");
    END;
}

int main(void)
{
    struct order ana = {"Ana", 10, 0, 0}, bia = {"Bia", 1, 0, 0};

    post_order(&ana);
    post_order(&bia);
    run_loop();
    kept(sizeof(struct order));
    return 0;
}
