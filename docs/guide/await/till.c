/* till.c: one thread, one till, and a race. A guest looks whether there is enough, waits for the key, and takes his money.
 * Twelve come, three milliseconds apart, and each wants 100; there are 500. (Chapter 13.) */
#include "kitchen.h"

#define GUESTS 12
#define SHARE 100

struct guest {
    char who[16];
    int seen; /* so much was in the till when he looked */
};

static int till = 500;

static void take(void *of)
{
    struct guest *g = of;

    till = g->seen - SHARE;
    tell(g->who, "takes 100");
}

static void come(void *of)
{
    struct guest *g = of;

    g->seen = till;
    if (g->seen < SHARE) tell(g->who, "is told no");
    else takes(10, take, g); /* until he has the key */
}

int main(void)
{
    struct guest guests[GUESTS];

    for (int i = 0; i < GUESTS; i++) {
        guests[i] = (struct guest){0};
        snprintf(guests[i].who, sizeof guests[i].who, "guest %d", i + 1);
        takes(3 * i, come, &guests[i]);
    }
    run_loop();
    printf("left in the till: %d\n", till);
    return 0;
}
