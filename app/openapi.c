/* openapi.c: all this for machines, as OpenAPI 3.1 has it. What the table of routes knows is made of the table; page/openapi.json adds
 * what it does not know: schemas, header fields, what else can go wrong. An endpoint of which nothing stands there is described, too. */
#include "app/app.h"
#include "app/routes.h"
#include "app/start.h"
#include "text/embed.h"
#include "text/grammar.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

EMBED(openapi, "page/openapi.json");

#define PROBLEM "{\"$ref\":\"#/components/responses/Problem\"}"
#define SECURITY "{\"bearer\":[]}"
#define BODY ",\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\"}}}}"

static struct page description = {.type = "application/json"};

__attribute__((format(printf, 1, 2))) static cJSON *parsed(const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return cJSON_Parse(text);
}

/* Objects are merged, lists go on, anything else takes the place of what was there. Takes `more`. */
static void refine(cJSON *json, cJSON *more)
{
    while (more && more->child) {
        cJSON *item = cJSON_DetachItemViaPointer(more, more->child);
        cJSON *old = item->string ? cJSON_GetObjectItemCaseSensitive(json, item->string) : NULL;

        if (cJSON_IsObject(old) || cJSON_IsArray(old)) refine(old, item);
        else if (old) cJSON_ReplaceItemViaPointer(json, old, item);
        else json_append(json, item); /* into an object as well: it has its name */
    }
    cJSON_Delete(more);
}

/* One that components/parameters knows: as the handler's own, where its name means something else elsewhere, or by its name. Else it is text. */
static cJSON *parameter(const cJSON *known, const struct route *route, struct slice name, const char *in)
{
    char key[80];

    snprintf(key, sizeof key, "%s.%.*s", route->handler.name, (int)name.len, name.at);
    if (!cJSON_HasObjectItem(known, key)) snprintf(key, sizeof key, "%.*s", (int)name.len, name.at);
    if (cJSON_HasObjectItem(known, key)) return parsed("{\"$ref\":\"#/components/parameters/%s\"}", key);
    return parsed("{\"name\":\"%s\",\"in\":\"%s\",\"required\":%s,\"schema\":{\"type\":\"string\"}}", key, in,
                  in[0] == 'p' ? "true" : "false");
}

#define QUERY 16 /* beside what else a route may want */

/* What can be wrong with any request that wants this. */
static const struct {
    int wants;
    const char *status;
} refusals[] = {{JSON | QUERY, "400"}, {MEMBER, "401"}, {LAB, "403"}, {LAB, "404"}, {JSON, "415"}, {JSON, "422"}};

static cJSON *describe(const struct route *route, const cJSON *known, cJSON *refinement)
{
    static const char *const tags[CHAPTERS] = {"operator", "bank", "pizzeria", "courier", "lab", "operator"};
    cJSON *operation = parsed(
        "{\"operationId\":\"%s\",\"tags\":[\"%s\"],\"parameters\":[],\"responses\":{\"default\":" PROBLEM "},\"security\":[%s]%s}",
        route->handler.name, tags[route->chapter], route->wants & MEMBER ? SECURITY : "", route->wants & JSON ? BODY : "");
    cJSON *parameters = cJSON_GetObjectItem(operation, "parameters"), *responses = cJSON_GetObjectItem(operation, "responses"),
          *item;
    const char *brace = strchr(route->pattern, '{');
    struct slice query = {route->query, route->query ? strlen(route->query) : 0}, name;
    bool says = strspn(route->menu, " ") == 2, succeeds = false; /* SAY; the lines of curl are further in */
    char menu[2048];

    snprintf(menu, sizeof menu, "%.*s", says ? (int)strcspn(route->menu, "\n") - 2 : 0, route->menu + 2);
    if (says) cJSON_AddStringToObject(operation, "summary", menu);
    snprintf(menu, sizeof menu, "```\n%s```", route->menu);
    cJSON_AddStringToObject(operation, "description", menu);
    if (brace) json_append(parameters, parameter(known, route, (struct slice){brace + 1, strcspn(brace + 1, "}")}, "path"));
    while (slice_next_element(&query, &name)) json_append(parameters, parameter(known, route, name, "query"));
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        if ((route->wants | (route->query ? QUERY : 0)) & refusals[i].wants)
            cJSON_AddItemToObject(responses, refusals[i].status, parsed(PROBLEM));
    }
    refine(operation, refinement);
    cJSON_ArrayForEach (item, responses) succeeds |= item->string[0] == '2';
    if (!succeeds) cJSON_AddItemToObject(responses, "2XX", parsed("{\"description\":\"What was asked for.\"}"));
    return operation;
}

/* Once, when it is first asked for: it does not change while we run. False: no memory. */
static bool make_description(void)
{
    static const char *const methods[] = {[HTTP_GET] = "get", [HTTP_POST] = "post", [HTTP_DELETE] = "delete"};
    cJSON *json = cJSON_Parse(openapi), *refinements = cJSON_DetachItemFromObject(json, "paths"),
          *paths = cJSON_AddObjectToObject(json, "paths");
    cJSON *known = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "components"), "parameters");

    cJSON_AddStringToObject(cJSON_GetObjectItem(json, "info"), "version", FORNO_VERSION);
    for (const struct route *route = routes; route < routes + routes_len; route++) {
        const char *method = methods[route->method];
        cJSON *path = cJSON_GetObjectItemCaseSensitive(paths, route->pattern);
        cJSON *refinement = cJSON_GetObjectItemCaseSensitive(refinements, route->pattern);

        if (!route->menu) continue; /* a piece of the page */
        if (!path) path = cJSON_AddObjectToObject(paths, route->pattern);
        cJSON_AddItemToObject(path, method, describe(route, known, cJSON_DetachItemFromObject(refinement, method)));
    }
    cJSON_Delete(refinements);
    return page_of_json(&description, json);
}

void get_openapi(struct req *r)
{
    if (description.from || make_description()) respond_page(r, &description);
    else respond_no_memory(r);
}
