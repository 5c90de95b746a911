/* road.h: the way to a database, as db.c takes it. db.h says what each of these promises. */
#ifndef FORNO_ROAD_H
#define FORNO_ROAD_H

#include "db.h"

struct road {
    int (*open)(const struct db_options *options, char *error, size_t error_size);
    void (*close)(void);
    void (*submit)(struct db_job *job, struct op *op); /* job->what says what */
    void (*listen)(int64_t until_ns);                  /* call db_changed() when somebody else has changed something */
    size_t (*waiting)(void);
    bool (*busy)(void);
    void (*stats)(struct db_stats *stats);
    size_t (*lanes)(struct db_lane *lanes, size_t max); /* NULL: it has none */
    int (*audit)(const char *path, FILE *out);
};

extern const struct road sqlite_road, postgres_road;

int sqlite_audit(const char *path, FILE *out);
int postgres_audit(const char *url, FILE *out);

/* For a road to call, on the loop thread. */
void db_changed(int64_t order_id, int64_t account_id);

#endif
