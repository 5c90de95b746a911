/* orders.h: what the pizzeria's two files share. */
#ifndef FORNO_APP_ORDERS_H
#define FORNO_APP_ORDERS_H

#include "app/app.h"

cJSON *order_json(const struct order *o, enum order_status status, int64_t now_ms);

/* When the database's calendar will show this instant, on the loop's clock. */
static inline int64_t ns_of(int64_t ms, struct db_instant now)
{
    return now.ns + (ms - now.ms) * NS_PER_MS;
}

#endif
