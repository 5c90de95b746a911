/* router.c: the tiny router: from a method and a path to a step, and the menu, which is the table again. */
#include "app/app.h"
#include "app/routes.h"
#include "app/start.h"
#include "text/grammar.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool lab_open, lab_guarded;

void router_open_lab(bool guarded)
{
    lab_open = true;
    lab_guarded = guarded;
}

/* ---- the tiny router ------------------------------------------------------------------------------------------------------------- */

/* The next byte of a path, decoded. *literal: it stood there as it is, so a '/' separates segments. The parser has seen to it
 * that escapes are complete, valid UTF-8 and never NUL. */
static char next_byte(struct slice *path, bool *literal)
{
    int escaped = percent_value(*path);
    char c = escaped < 0 ? path->at[0] : (char)escaped;

    *literal = escaped < 0;
    path->at += *literal ? 1 : 3;
    path->len -= *literal ? 1 : 3;
    return c;
}

/* Take one segment off the path, decoded; of what is longer than any name or id there can be, only the beginning. False: it is
 * empty, or ought to be digits and is not. */
static bool take_segment(struct slice *path, bool digits, char *segment, size_t size)
{
    size_t n = 0;

    while (path->len && path->at[0] != '/') {
        bool literal;
        char c = next_byte(path, &literal);

        if (digits && !is_digit(c)) return false;
        if (n + 1 < size) segment[n++] = c;
    }
    segment[n] = '\0';
    return n > 0;
}

static bool matches(const char *pattern, struct slice path, char param[sizeof((struct req *)0)->param])
{
    while (*pattern) {
        bool literal;

        if (*pattern == '{') {
            if (!take_segment(&path, pattern[1] == 'i', param, sizeof((struct req *)0)->param)) return false;
            pattern = strchr(pattern, '}') + 1;
            continue;
        }
        if (!path.len) return false;
        char c = next_byte(&path, &literal);
        if (c != *pattern++ || (c == '/' && !literal)) return false;
    }
    return path.len == 0;
}

/* "OPTIONS *" is about no path at all; and a lab that is closed is not there. */
static bool fits(const struct route *route, const struct req *r, char param[sizeof r->param])
{
    return !r->msg.asterisk && (!(route->wants & LAB) || lab_open) && matches(route->pattern, http_path(&r->msg), param);
}

/* What may be done with this path, for Allow. Empty: there is no such path. */
static void allowed_methods(const struct req *r, char *text, size_t size)
{
    static const char *const names[] = {[HTTP_GET] = "GET, HEAD", [HTTP_POST] = "POST", [HTTP_DELETE] = "DELETE"};
    char param[sizeof r->param];

    text[0] = '\0';
    for (size_t i = 0; i < routes_len; i++) {
        size_t n = strlen(text);

        if ((r->msg.asterisk || fits(&routes[i], r, param)) && !strstr(text, names[routes[i].method]))
            snprintf(text + n, size - n, "%s, ", names[routes[i].method]);
    }
    size_t n = strlen(text);
    if (n) snprintf(text + n, size - n, "OPTIONS");
}

/* ---- pages of other sites ----------------------------------------------------------------------------------------------------------- */

/* A browser that runs on this machine reaches us, and so does every page that it shows. What is open only because we listen on a
 * loopback address is not for them. */

/* Can this name, as a browser writes it, mean nothing but this machine, whatever somebody's name server says (DNS rebinding)? */
static bool is_own_name(struct slice host)
{
    if (slice_is_nocase(host, app_options->host) || slice_is_nocase(host, "localhost") || slice_is(host, "[::1]")) return true;
    if (host.len > 10 && slice_is_nocase((struct slice){host.at + host.len - 10, 10}, ".localhost")) return true;
    if (host.len < 4 || memcmp(host.at, "127.", 4) != 0) return false;
    while (host.len && (host.at[host.len - 1] == '.' || is_digit(host.at[host.len - 1]))) host.len--;
    return host.len == 0; /* 127.0.0.1, not 127.0.0.1.example.com */
}

/* Does the browser say that a page of another site asks? By Fetch Metadata, or, where it is too old for that, by Origin. */
static bool is_cross_site(const struct req *r)
{
    struct slice site = http_field(&r->msg, "sec-fetch-site"), origin = http_field(&r->msg, "origin"), host = http_host(&r->msg);
    const char *slashes = origin.at ? memmem(origin.at, origin.len, "://", 3) : NULL;

    if (site.at) return !slice_is(site, "same-origin") && !slice_is(site, "none"); /* none: somebody has typed our address */
    if (!origin.at) return false;
    if (!slashes) return true;
    struct slice from = {slashes + 3, (size_t)(origin.at + origin.len - slashes - 3)};
    return from.len != host.len || strncasecmp(from.at, host.at, host.len) != 0;
}

static bool is_foreign(const struct req *r)
{
    struct slice host = http_host(&r->msg);
    struct authority whom;

    return (host.at && !(authority_read(host, &whom) && is_own_name(whom.host))) || is_cross_site(r);
}

/* ---- refusals: what is wrong can be seen from the head alone ------------------------------------------------------------------------ */

static void refuse_expectation(struct req *r)
{
    respond_problem(r, PROBLEM_EXPECTATION, NULL);
}

static void refuse_method(struct req *r)
{
    respond_problem(r, PROBLEM_UNKNOWN_METHOD, "%.*s is not known here.", (int)http_method_text(&r->msg).len,
                    http_method_text(&r->msg).at);
}

static void refuse_path(struct req *r)
{
    char allow[64];

    allowed_methods(r, allow, sizeof allow);
    if (!allow[0]) {
        respond_problem(r, PROBLEM_NOT_FOUND, "There is nothing at this path. GET / lists what there is.");
        return;
    }
    respond_field(r, "Allow", "%s", allow);
    if (r->msg.method == HTTP_OPTIONS) respond(r, 204, NULL, NULL, 0);
    else respond_problem(r, PROBLEM_METHOD_NOT_ALLOWED, "This path takes %s.", allow);
}

static void refuse_foreign(struct req *r)
{
    respond_problem(r, PROBLEM_CROSS_SITE, NULL);
}

static void refuse_stranger(struct req *r)
{
    bool has_token = http_field(&r->msg, "authorization").at != NULL;

    respond_problem(r, has_token ? PROBLEM_INVALID_TOKEN : PROBLEM_UNAUTHORIZED, NULL);
}

static void refuse_media_type(struct req *r)
{
    respond_problem(r, PROBLEM_MEDIA_TYPE, "The body must be JSON and say so. With curl, add: -H 'Content-Type: application/json'");
}

/* Whatever its body may be. */
#define REFUSED(r, fn) (r->needs_no_body = true, (struct step)STEP(fn))

/* application/json, perhaps with charset=utf-8 (RFC 9110 8.3.1). A request without a body needs none. */
static bool is_json(const struct req *r)
{
    struct slice rest = http_field(&r->msg, "content-type"), type;

    if (!rest.at) return r->msg.phase == HTTP_DONE && http_body(&r->msg).len == 0;
    type = slice_trim(take_until(&rest, ';'));
    rest = slice_trim(rest);
    return slice_is_nocase(type, "application/json") &&
           (!rest.len || slice_is_nocase(rest, "charset=utf-8") || slice_is_nocase(rest, "charset=\"utf-8\""));
}

static const struct route *find_route(struct req *r)
{
    enum http_method method = r->msg.method == HTTP_HEAD ? HTTP_GET : r->msg.method;

    for (size_t i = 0; i < routes_len; i++) {
        if (routes[i].method == method && fits(&routes[i], r, r->param)) return &routes[i];
    }
    return NULL;
}

/* A body with an unknown member is refused, since its sender meant something by it. So are parameters that could have changed the
 * answer; where none is looked at, none could. */
static void refuse_parameter(struct req *r)
{
    bool unknown = false;
    const char *taken = find_route(r)->query;
    struct slice name = wrong_parameter(r, taken, &unknown);
    int shown = name.len < 40 ? (int)name.len : 40;

    if (unknown) refuse(r, PROBLEM_BAD_PARAMETER, "\"%.*s\" is not known here. This path takes %s.", shown, name.at, taken);
    else refuse(r, PROBLEM_BAD_PARAMETER, "\"%.*s\" occurs twice.", shown, name.at);
}

struct step app_route(struct req *r)
{
    const struct route *route;
    bool unknown;

    loop_viewers_wake();
    if (r->msg.phase == HTTP_FAILED) return REFUSED(r, refuse_malformed);
    if (r->msg.expect_unknown) return REFUSED(r, refuse_expectation);
    if (r->msg.method == HTTP_OTHER || r->msg.method == HTTP_CONNECT) return REFUSED(r, refuse_method);
    route = find_route(r);
    if (!route) return REFUSED(r, refuse_path);
    r->route = route->pattern;
    r->viewer = route->wants & VIEWER;
    if (route->wants & LAB && lab_guarded && is_foreign(r)) return REFUSED(r, refuse_foreign);
    if (route->wants & MEMBER && !bearer(r).at) return REFUSED(r, refuse_stranger);
    if (route->wants & JSON && !is_json(r)) return REFUSED(r, refuse_media_type);
    /* After the body: it may have to wait for the token to be looked up. */
    if (route->query && wrong_parameter(r, route->query, &unknown).at) return (struct step)STEP(refuse_parameter);
    return route->handler;
}

/* ---- the menu ---------------------------------------------------------------------------------------------------------------------------- */

static const char *const headings[CHAPTERS] = {
    [FRONT] = ("Forno: a pizzeria and its bank. Everything here is yours to try.\n"
               "How it works, chapter by chapter: docs/guide/en/README.md; em português: docs/guide/pt-BR/README.md"),
    [BANK] = "The bank",
    [PIZZERIA] = "The pizzeria",
    [COURIER] = "The courier, an external service",
    [THE_LAB] = "The lab: three ways to wait, and a fourth that is a mistake",
    [OPERATOR] = "The operator",
};

static void put_row(struct buf *out, const struct route *route, const char *url)
{
    const char *p = route->menu, *next;

    for (; (next = strstr(p, "$URL")); p = next + 4) {
        buf_put(out, p, (size_t)(next - p));
        buf_puts(out, url);
    }
    buf_puts(out, p);
}

void put_menu(struct buf *out, const struct req *r, const char *url)
{
    bool lab = lab_open && !(lab_guarded && is_foreign(r));

    for (enum chapter chapter = 0; chapter < CHAPTERS; chapter++) {
        if (chapter == THE_LAB && !lab) continue;
        buf_printf(out, "%s%s\n", chapter ? "\n" : "", headings[chapter]);
        for (size_t i = 0; i < routes_len; i++) {
            if (routes[i].chapter == chapter && routes[i].menu && (lab || !(routes[i].wants & LAB))) put_row(out, &routes[i], url);
        }
    }
}
