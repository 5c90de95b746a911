/* start.c: the application set up. */
#include "app/start.h"

#include "app/app.h"
#include "app/routes.h"
#include "reactor/still.h"

#include <sodium.h>
#include <stdio.h>

const struct app_options *app_options;

bool app_start(const struct app_options *o, const char *own_door, bool loopback, char *error, size_t error_size)
{
    const struct db_options db = {.path = o->db_path, .blocking = o->blocking, .group_max = o->group_max, .hurried = still_heeded};

    app_options = o;
    if (sodium_init() < 0) {
        snprintf(error, error_size, "libsodium cannot start: is there no source of random numbers?");
        return false;
    }
    json_start();
    waits_start();
    orders_start();
    if (o->lab == LAB_ON) router_open_lab(false);
    else if (o->lab == LAB_ON_LOOPBACK && loopback) router_open_lab(true);
    /* The database last, so that a mistake in an option leaves none behind. */
    return upstream_open(o->courier ? o->courier : own_door, o->blocking, error, error_size) &&
           db_open(&db, error, error_size) == 0;
}
