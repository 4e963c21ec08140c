"""What retrainings cost in GPU hours and storage, from measured step costs and stated assumptions.

    python benchmarks/scaling.py

Measured here: what a step with the objective costs over plain DPO (docs/performance.md), bytes and seconds of
validation per text (docs/quality.md). Everything about GPUs is an assumption: none was at hand.
"""

from __future__ import annotations

# Assumptions.
PEAK = 989e12  # FLOP/s of one GPU in bfloat16, dense (an H100's data sheet)
MFU = 0.35  # share of it that training reaches
STEPS, PAIRS, PAIR_TOKENS = 500, 64, 514  # of a retraining; tokens as in docs/performance.md
EVALUATION = 2_000 * 10 * 600  # prompts, languages, tokens of prompt and reply, for the candidate
DECODING = 0.05  # share of PEAK that generation reaches
BYTES = 2  # of a weight in bfloat16
ADAPTER = 0.01  # of the weights, with rank 16 to 32 on all linear layers
SIZES = {"0.5B": 0.5e9, "7B": 7e9, "70B": 70e9}
RUNS = (10, 1_000, 100_000)
PROMPTS = (1e5, 1e6, 1e8)
LANGUAGES = 10

# Measured. (docs/performance.md: `every 1`, full and adapter; docs/quality.md: 100,000 rows in 10 languages.)
STEP_COST = {"full": 1.70, "adapter": 1.88}
VALIDATION_SECONDS = 930 / 1e6  # per text, on two cores
TEXT_MEMORY = 1_000  # bytes per text at most


def gpu_hours(parameters: float, weights: str) -> float:
    """Of one retraining: training and the candidate's evaluation. 6ND for full weights, 4ND for an adapter."""
    backward = 4 if weights == "full" else 2  # FLOP per parameter and token; a forward pass takes 2
    # Policy, forward and backward, and the reference, forward: plain DPO. The objective's factor comes on top.
    training = STEPS * PAIRS * PAIR_TOKENS * (2 + backward + 2) * parameters * STEP_COST[weights]
    return (training / (PEAK * MFU) + EVALUATION * 2 * parameters / (PEAK * DECODING)) / 3600


def stored(parameters: float, weights: str) -> float:
    """Bytes that one retraining leaves: its weights, in DVC's cache and in the registry."""
    return 2 * BYTES * parameters * (1 if weights == "full" else ADAPTER)


def size(count: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.0f} PB"


def main() -> None:
    """Prints the tables of docs/scaling.md."""
    print("| model | weights | GPU hours | stored |", *(f" {n:,} GPU hours | stored |" for n in RUNS), sep="")
    print("|---|---|---|---|" + "---|---|" * len(RUNS))
    for name, parameters in SIZES.items():
        for weights in ("adapter", "full"):
            hours, held = gpu_hours(parameters, weights), stored(parameters, weights)
            cells = [f"{hours:,.2f} | {size(held)}", *(f"{n * hours:,.0f} | {size(n * held)}" for n in RUNS)]
            print(f"| {name} | {weights} | {' | '.join(cells)} |")
    print("\n| rows in ten languages | validation on 2 cores | compact columns |\n|---|---|---|")
    for rows in PROMPTS:
        texts = rows * LANGUAGES
        print(f"| {rows:,.0f} | {texts * VALIDATION_SECONDS / 3600:,.1f} h | at most {size(texts * TEXT_MEMORY)} |")


if __name__ == "__main__":
    main()
