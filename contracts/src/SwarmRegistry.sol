// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Control} from "./Control.sol";
import {Epochs} from "./Epochs.sol";
import {KeyRotation} from "./KeyRotation.sol";
import {Parameters} from "./Parameters.sol";
import {RewardPool} from "./RewardPool.sol";
import {Settlement} from "./Settlement.sol";
import {Slashing} from "./Slashing.sol";
import {Stakes} from "./Stakes.sol";
import {Terms} from "./Terms.sol";

/// @title SwarmRegistry
/// @notice One swarm: its recipe, its clock, its peers, what they earned, and what they stand to lose. Nothing in it is
/// self-reported: a key is proven, points are signed by a quorum, an offence is shown by the offender's own signatures.
/// @dev Put together from parts with one subject each. Not upgradeable: a new version is a new deployment, which peers
/// choose. It holds no ether and makes no calls but to the two tokens and to owners that are ERC-1271 contracts.
contract SwarmRegistry is Parameters, KeyRotation, RewardPool, Slashing {
    constructor(Terms memory terms_)
        Control(terms_)
        Parameters(terms_)
        Epochs(terms_)
        Stakes(terms_)
        Settlement(terms_)
        RewardPool(terms_)
    {}

    /// @notice The name and version of this contract, by which a client tells it from a foreign one.
    function version() external pure returns (string memory) {
        return "rl-swarm registry 2";
    }

    /// @notice All that the swarm was founded with, as it is now.
    function terms() external view returns (Terms memory now_) {
        now_.recipeHash = recipeHash();
        now_.genesis = genesis();
        now_.roundSeconds = roundSeconds();
        now_.epochSeconds = epochSeconds();
        now_.challengeSeconds = challengeSeconds();
        now_.delaySeconds = _delaySeconds;
        now_.governance = governance();
        now_.guardian = guardian();
        (now_.rewardToken, now_.tokensPerPoint) = _rewardTerms();
        (now_.stakeToken, now_.stakeAmount, now_.unbondingSeconds) = _stakeTerms();
        now_.bootstrap = bootstrap();
    }
}
