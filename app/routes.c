/* routes.c: routes.inc, made into prototypes and a table. */
#include "app/routes.h"

#define ROUTE(method, pattern, handler, ...) void handler(struct req *r);
#include "app/routes.inc"
#undef ROUTE

#define SAY(text) "  " text "\n"
#define CURL(line) "    curl " line "\n"
#define ME " -H \"Authorization: Bearer $TOKEN\""
#define BODY(json) " -H 'Content-Type: application/json' -d '" json "'"

const struct route routes[] = {
#define ROUTE(method, pattern, handler, wants, query, chapter, ...) \
    {HTTP_##method, pattern, STEP(handler), wants, query, chapter, __VA_ARGS__},
#include "app/routes.inc"
};

const size_t routes_len = sizeof routes / sizeof *routes;
