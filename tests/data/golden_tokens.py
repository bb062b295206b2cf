#!/usr/bin/env python3
"""Prints the golden tokens of golden_tokens_test.cpp: python3 tests/data/golden_tokens.py

The generated sources written again from their description, in plain Python: SHA-256 seeds,
SplitMix64, cumulative sums. Equal tokens show that C++ compiler and library do not matter.
"""

import bisect
import hashlib
import itertools

MASK = (1 << 64) - 1


class Random:
    def __init__(self, seed, stream, index=0):
        digest = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
        self.counter = int.from_bytes(digest[:8], "little")

    def next(self):
        self.counter = (self.counter + 0x9E3779B97F4A7C15) & MASK
        z = self.counter
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def uniform(self):
        return (self.next() >> 11) * 2.0**-53

    def below(self, count):
        remainder = (1 << 64) % count
        while True:
            drawn = self.next()
            if drawn < (1 << 64) - remainder:
                return drawn % count


def categorical(weights):
    total = 0.0
    for w in weights:
        total += w
    sums, s = [], 0.0
    for w in weights:
        s += w
        sums.append(s / total)
    return lambda random: bisect.bisect_right(sums, random.uniform())


def zipf_memory(random, length, keys=1024, labels=16, exponent=0.5, noise=0.1):
    table_random = Random(0, "data/zipf_memory/table")
    table = [table_random.below(labels) for _ in range(keys)]
    draw_key = categorical([(k + 1.0) ** -(1 + exponent) for k in range(keys)])
    tokens = []
    while len(tokens) < length:
        key = draw_key(random)
        tokens.append(key)
        if len(tokens) < length:
            tokens.append(keys + (random.below(labels) if random.uniform() < noise else table[key]))
    return tokens


def mess3(random, length, x=0.05, a=0.85):
    def move(k, i, j):
        return (1 - 2 * x if i == j else x) * (a if j == k else (1 - a) / 2)

    draws = [categorical([move(k, i, j) for k in range(3) for j in range(3)]) for i in range(3)]
    state, tokens = categorical([1 / 3] * 3)(random), []
    for _ in range(length):
        symbol, state = divmod(draws[state](random), 3)
        tokens.append(symbol)
    return tokens


def dirichlet(random, length, symbols=8, alpha=0.3):
    weights = [[alpha] * symbols for _ in range(symbols)]
    totals = [symbols * alpha] * symbols
    tokens = [random.below(symbols)]
    while len(tokens) < length:
        row = tokens[-1]
        target, total, token = random.uniform() * totals[row], 0.0, symbols - 1
        for j in range(symbols - 1):
            total += weights[row][j]
            if target < total:
                token = j
                break
        weights[row][token] += 1
        totals[row] += 1
        tokens.append(token)
    return tokens


def graph_walk(random, length, nodes=256, edges=1280):
    table_random = Random(0, "data/graph_walk/graph")
    pairs = [(a, b) for b in range(nodes) for a in range(b)]
    chosen = set()
    for last in range(len(pairs) - edges, len(pairs)):
        candidate = table_random.below(last + 1)
        chosen.add(last if candidate in chosen else candidate)
    near = [[] for _ in range(nodes)]
    for a, b in sorted(pairs[i] for i in chosen):
        near[a].append(b)
        near[b].append(a)
    ends = [node for node in range(nodes) for _ in near[node]]
    tokens = [ends[random.below(len(ends))]]
    while len(tokens) < length:
        around = sorted(near[tokens[-1]])
        tokens.append(around[random.below(len(around))])
    return tokens


def random_hierarchy(random, length, symbols=8, rules=4, branching=2, levels=3):
    table_random = Random(0, "data/random_hierarchy/rules")
    sides = list(itertools.product(range(symbols), repeat=branching))
    grammar = []  # per level, from the lowest: the right sides of each symbol
    for _ in range(levels):
        order = list(sides)
        for i in range(symbols * rules):
            j = i + table_random.below(len(order) - i)
            order[i], order[j] = order[j], order[i]
        grammar.append([order[symbol * rules : (symbol + 1) * rules] for symbol in range(symbols)])

    def grow(level, symbol):
        if level == 0:
            return [symbol]
        side = grammar[level - 1][symbol][random.below(rules)]
        return [token for child in side for token in grow(level - 1, child)]

    tokens = []
    while len(tokens) < length:
        tokens += grow(levels, random.below(symbols))
    return tokens[:length]


for source in (zipf_memory, mess3, dirichlet, graph_walk, random_hierarchy):
    for seed, stream, index in ((3, "data/train", 5), (0, "data/validation", 2)):
        print(source.__name__, stream, source(Random(seed, stream, index), 24))
