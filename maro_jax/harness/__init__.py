"""lm-evaluation-harness on the policy: what a model that learnt in games can do outside of them.

`model.PolicyLM` is what the harness asks; `scoring` and `generation` are the programs behind it, in a few fixed shapes;
`loading` finds tasks and weights; `report` sets the trained weights beside those they began with. Only these modules
import `lm_eval`, an optional extra.
"""
