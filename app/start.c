/* start.c: the application set up and taken down. */
#include "app/start.h"

#include "app/app.h"
#include "app/router.h"
#include "reactor/still.h"

#include <sodium.h>
#include <stdio.h>

const struct app_options *app_options;

bool app_start(const struct app_options *options, char *error, size_t error_size)
{
    const struct db_options db = {
        .path = options->db_path, .blocking = options->blocking, .group_max = options->group_max, .hurried = still_heeded};

    app_options = options;
    if (sodium_init() < 0) {
        snprintf(error, error_size, "libsodium cannot start: is there no source of random numbers?");
        return false;
    }
    json_start();
    waits_start(options->blocking);
    orders_start();
    pages_start();
    return db_open(&db, error, error_size) == 0;
}

bool app_listening(const char *own_door, bool loopback, char *error, size_t error_size)
{
    const char *courier = app_options->courier;

    if (app_options->lab == LAB_ON) router_open_lab(false);
    else if (app_options->lab == LAB_ON_LOOPBACK && loopback) router_open_lab(true);
    return upstream_open(courier ? courier : own_door, app_options->blocking, error, error_size);
}

void app_stop(void)
{
    upstream_close();
    db_close();
}

int app_audit(const char *path)
{
    return db_audit(path, stdout);
}
