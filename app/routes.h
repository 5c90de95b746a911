/* routes.h: the table of everything that can be asked for, and who reads it: the router and the menu. */
#ifndef FORNO_APP_ROUTES_H
#define FORNO_APP_ROUTES_H

#include "reactor/req.h"

/* MEMBER: wants a token. JSON: wants a JSON body. LAB: not for strangers on a network, nor for pages of other sites. VIEWER: asked
 * by whoever watches the loop, for that purpose, and so not counted among what he watches. */
enum { OPEN = 0, MEMBER = 1, JSON = 2, LAB = 4, VIEWER = 8 };

enum chapter { FRONT, BANK, PIZZERIA, COURIER, THE_LAB, OPERATOR, CHAPTERS };

/* See routes.inc. */
struct route {
    enum http_method method;
    const char *pattern;
    struct step handler;
    int wants;
    const char *query;
    enum chapter chapter;
    const char *menu;
};

extern const struct route routes[];
extern const size_t routes_len;

/* The routes of the lab are there. guarded: only because nobody but this machine can reach us, so not for pages of other sites. */
void router_open_lab(bool guarded);

/* The text at GET /: a curl line for everything that whoever asks may use now. */
void put_menu(struct buf *out, const struct req *r, const char *url);

#endif
