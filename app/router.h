/* router.h: what the router is told before the first request, and the menu that it knows. */
#ifndef FORNO_APP_ROUTER_H
#define FORNO_APP_ROUTER_H

#include "reactor/req.h"

/* The routes of the lab are there. guarded: only because nobody but this machine can reach us, so not for pages of other sites. */
void router_open_lab(bool guarded);

/* The text at GET /: a curl line for everything that whoever asks may use now. */
void put_menu(struct buf *out, const struct req *r, const char *url);

#endif
