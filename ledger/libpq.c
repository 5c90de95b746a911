/* libpq.c: finds the functions of libpq by their names. The subtle thing is that there is none: the header gives every pointer its type. */
#include "ledger/libpq.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

struct libpq pq;

bool libpq_load(void)
{
    static const struct {
        const char *name;
        size_t place;
    } functions[] = {
#define F(name) {#name, offsetof(struct libpq, name)},
        LIBPQ(F)
#undef F
    };
    void *library = dlopen("libpq.so.5", RTLD_NOW | RTLD_LOCAL);

    for (size_t i = 0; library && i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(library, functions[i].name);

        if (!function) return false;
        memcpy((char *)&pq + functions[i].place, &function, sizeof function);
    }
    return library != NULL;
}
