/* audit.h: the rules of audit.sql, and who can run them. */
#ifndef FORNO_AUDIT_H
#define FORNO_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define AUDIT_FAULTS_SHOWN 10

/* Check every rule that is for all, or for `kind` ("file", "server") alone, and print what was found. faults_of(): prints some of the rows that
 * the query returns, and says how many there are; -1: it cannot be run, and has said why. */
bool audit_rules(const char *kind, long (*faults_of)(void *of, const char *sql, size_t len, FILE *out), void *of, FILE *out);

#endif
