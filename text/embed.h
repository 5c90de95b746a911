/* embed.h: a file of the source inside the binary: none to lose, no path to traverse. */
#ifndef FORNO_EMBED_H
#define FORNO_EMBED_H

/* The assembler puts the file between two symbols, and a NUL behind it (gas .incbin; the path is relative to the top of the tree). */
#define EMBED(name, file)                                           \
    __asm__(".pushsection .rodata\n"                                \
            ".global " #name "\n" #name ":\n.incbin \"" file "\"\n" \
            ".global " #name "_end\n" #name "_end:\n.byte 0\n"      \
            ".popsection\n");                                       \
    extern const char name[], name##_end[]

#endif
