/* steps.c: the handler as a chain of steps, which is how Forno writes it: each wait ends a function, and names the next one.
 * What is needed after a wait stands in the struct. */
#include "kitchen.h"

struct order {
    const char *who;
    int pizzas, price;
};

static void order_placed(void *of);
static void pizza_ready(void *of);

static void post_order(struct order *o)
{
    o->price = 35 * o->pizzas;
    tell(o->who, "orders");
    takes(10, order_placed, o); /* await: the database */
}

static void order_placed(void *of)
{
    struct order *o = of;

    tell(o->who, o->price > 100 ? "pays a lot" : "pays");
    takes(300 * o->pizzas, pizza_ready, o); /* await: the oven */
}

static void pizza_ready(void *of)
{
    struct order *o = of;

    tell(o->who, "eats");
}

int main(void)
{
    struct order ana = {"Ana", 10, 0}, bia = {"Bia", 1, 0};

    post_order(&ana);
    post_order(&bia);
    run_loop();
    kept(sizeof(struct order));
    return 0;
}
