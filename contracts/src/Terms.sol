// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Terms
/// @notice What a swarm is founded with. Recipe, bootstrap addresses and roles can change later, slowly and in public;
/// everything else is fixed.
struct Terms {
    /// @dev The hash of the recipe that the swarm trains on.
    bytes32 recipeHash;
    /// @dev The start of round 0 and of epoch 0, in unix seconds.
    uint64 genesis;
    /// @dev The length of a tick of the round clock.
    uint32 roundSeconds;
    /// @dev The length of an epoch, the time between two settlements.
    uint32 epochSeconds;
    /// @dev How long a posted settlement can be challenged before it is final.
    uint32 challengeSeconds;
    /// @dev How long a change by governance is public before it can be applied.
    uint32 delaySeconds;
    /// @dev Announces changes, and alone can end a pause.
    address governance;
    /// @dev Can pause, and freeze a settlement that is not final.
    address guardian;
    /// @dev The token of the reward pool; zero for a swarm without one.
    address rewardToken;
    /// @dev Units of the reward token for one point, which is a million of the millionths in settlements.
    uint256 tokensPerPoint;
    /// @dev The token that peers stake; zero for a swarm without stakes.
    address stakeToken;
    /// @dev The stake without which a peer is not active.
    uint256 stakeAmount;
    /// @dev How long a stake that was asked back stays, and stays slashable.
    uint32 unbondingSeconds;
    /// @dev Addresses by which a newcomer finds the first peers.
    string[] bootstrap;
}

/// @notice A term that must not be zero is zero; `term` is its name in `Terms`.
error TermIsZero(string term);
